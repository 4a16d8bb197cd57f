--- The server's life over |vim.lsp|: found, started at the first use, started again when it dies.
--- One for all buffers. Knows what is said at the start; not what is asked.

local config = require('lsp_assist.config')
local notice = require('lsp_assist.notice')
local place = require('lsp_assist.place')

local M = {}

local NAME = 'lsp_assist'
local FIRST_DELAY_MS = 500
local LONGEST_DELAY_MS = 30000
local MAX_DEATHS = 5
local STEADY_S = 60
local MAX_BYTES = 5000000

local HAS_11 = vim.fn.has('nvim-0.11') == 1

local state = 'off' ---@type 'off'|'starting'|'ready'
local client ---@type table|nil
local folders = {} ---@type string[]
local waiting = {} ---@type { [1]: string, [2]: table, [3]: function }[]
local pending = {} ---@type table<integer, function>
local unsupported = {} ---@type table<string, boolean>
local n_requests = 0
local n_deaths = 0
local n_starts = 0
local started_at = 0
local watchers = {} ---@type { event: function, ready: function, lost: function, commands: table }[]

--- Sends a request; `done(result, error)` is called when it is answered, with one of them nil. Starts
--- the server if need be. The text of all buffers is at the server before the request is.
---@param method string
---@param params table
---@param done fun(result: table|nil, error: table|nil)
function M.request(method, params, done)
  if state ~= 'ready' then
    table.insert(waiting, { method, params, done })
    M.start()
    return
  end
  n_requests = n_requests + 1
  local n = n_requests
  pending[n] = done
  -- Without a buffer, changes of all buffers go before it.
  local is_sent = M._call('request', method, next(params) and params or vim.empty_dict(), function(error, result)
    M._answered(n, method, result, error)
  end)
  if not is_sent then
    M._answered(n, method, nil, { message = 'the server is gone' })
  end
end

--- `off`, `starting` or `ready`.
---@return string
function M.state()
  return state
end

--- Whether the server answered that it does not know a method.
---@param method string
---@return boolean
function M.lacks(method)
  return unsupported[method] or false
end

--- What a question has to know of it.
---@return { encoding: string, folders: string[] }
function M.facts()
  return { encoding = client and client.offset_encoding or 'utf-16', folders = folders }
end

--- How often it became ready.
---@return integer
function M.n_starts()
  return n_starts
end

--- Tells of events, of the start, and of the end with its reason.
---@param watcher { event: function, ready: function, lost: function }
function M.watch(watcher)
  table.insert(watchers, watcher)
end

--- What |vim.lsp| is told about the server, for all versions of Neovim.
---@return table
function M.description()
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.experimental = { lspAssist = { version = 1 } }
  return {
    name = NAME,
    cmd = config.command(),
    capabilities = capabilities,
    init_options = config.options.settings,
    handlers = {
      ['assist/event'] = function(_, event)
        M._tell('event', event)
      end,
      ['window/showMessage'] = function(_, told)
        local levels = { vim.log.levels.ERROR, vim.log.levels.WARN }
        notice.tell(told.message, levels[told.type] or vim.log.levels.INFO)
      end,
    },
    commands = require('lsp_assist.actions').commands(),
    on_init = function(started)
      vim.schedule(function()
        M._ready(started)
      end)
    end,
    on_attach = function(_, bufnr)
      M._reach(bufnr)
    end,
    on_exit = function(code, signal)
      vim.schedule(function()
        M._ended(code, signal)
      end)
    end,
    reuse_client = function(running, described)
      return running.name == described.name and not running:is_stopped()
    end,
  }
end

--- Tells |vim.lsp.config()| of the server, where there is such a thing, and has it start with the
--- first file.
function M.enable()
  local group = vim.api.nvim_create_augroup('lsp_assist_server', {})
  if HAS_11 then
    M._describe()
    if config.options.autostart and config.command() then
      vim.lsp.enable(NAME)
    end
  elseif config.options.autostart then
    vim.api.nvim_create_autocmd('FileType', {
      group = group,
      callback = function(event)
        if M._is_text(event.buf) and config.command() then
          M.start()
        end
      end,
    })
  end
end

--- Starts the server unless it runs.
function M.start()
  if state ~= 'off' then
    return
  elseif not config.command() then
    M._refuse('the server is not installed: run `pipx install .` in a clone of lsp-assist, or set cmd in setup{}')
    return
  end
  state = 'starting'
  started_at = vim.loop.hrtime()
  local id
  local root = place.root(vim.api.nvim_buf_get_name(0))
  if HAS_11 then
    M._describe()
    local described = vim.deepcopy(vim.lsp.config[NAME])
    described.root_dir = root
    id = vim.lsp.start(described, { attach = false, reuse_client = described.reuse_client })
  else
    -- vim.lsp.start() of 0.8 to 0.10 would attach whatever buffer this is, also the chat.
    local described = M.description()
    described.root_dir = root
    id = vim.lsp.start_client(described)
  end
  if not id then
    state = 'off'
    M._refuse('the server did not start; :LspLog or :checkhealth lsp_assist may say why')
  end
end

--- Has the server know a buffer's text, if it holds a file's, and the folder of its project.
---@param bufnr integer
function M.attach(bufnr)
  if state == 'ready' and M._is_text(bufnr) then
    vim.lsp.buf_attach_client(bufnr, client.id)
    M._reach(bufnr)
  end
end

--- Sends a notification, if the server runs.
function M.notify(method, params)
  if state == 'ready' then
    M._call('notify', method, params)
  end
end

--- A method of the client, whose `.` became a `:` in 0.11.
function M._call(name, ...)
  if HAS_11 then
    return client[name](client, ...)
  end
  return client[name](...)
end

local is_described = false

--- Once: what the user says later in vim.lsp.config('lsp_assist', ...) counts.
function M._describe()
  if not is_described then
    is_described = true
    local described = M.description()
    described.cmd = described.cmd or { 'lsp-assist', 'serve' }
    described.root_dir = function(bufnr, on_dir)
      on_dir(place.root(vim.api.nvim_buf_get_name(bufnr)))
    end
    vim.lsp.config(NAME, described)
  end
end

function M._is_text(bufnr)
  if not vim.api.nvim_buf_is_loaded(bufnr) or vim.bo[bufnr].buftype ~= '' or vim.bo[bufnr].binary then
    return false
  end
  local name = vim.api.nvim_buf_get_name(bufnr)
  local stat = vim.loop.fs_stat(name)
  return name ~= '' and not name:match('^%a[%w+.-]+://') and (not stat or stat.size <= MAX_BYTES)
end

--- Makes the folder of a buffer part of the workspace.
function M._reach(bufnr)
  local root = place.root(vim.api.nvim_buf_get_name(bufnr))
  if state ~= 'ready' or not root or vim.tbl_contains(folders, root) then
    return
  end
  local folder = { uri = vim.uri_from_fname(root), name = vim.fn.fnamemodify(root, ':t') }
  table.insert(folders, root)
  client.workspace_folders = client.workspace_folders or {}
  table.insert(client.workspace_folders, folder)
  M.notify('workspace/didChangeWorkspaceFolders', { event = { added = { folder }, removed = {} } })
end

function M._ready(started)
  client = started
  state = 'ready'
  n_starts = n_starts + 1
  unsupported = {}
  folders = {}
  for _, folder in ipairs(client.workspace_folders or {}) do
    table.insert(folders, vim.uri_to_fname(folder.uri))
  end
  for _, bufnr in ipairs(vim.api.nvim_list_bufs()) do
    M.attach(bufnr)
  end
  vim.api.nvim_create_autocmd({ 'BufReadPost', 'BufNewFile', 'BufFilePost', 'BufWinEnter', 'FileType' }, {
    group = vim.api.nvim_create_augroup('lsp_assist_documents', {}),
    callback = function(event)
      M.attach(event.buf)
    end,
  })
  local asked = waiting
  waiting = {}
  for _, one in ipairs(asked) do
    M.request(one[1], one[2], one[3])
  end
  M._tell('ready')
end

function M._answered(n, method, result, error)
  local done = pending[n]
  if not done then
    return
  end
  pending[n] = nil
  if error and error.code == -32601 then
    unsupported[method] = true
    error = { code = error.code, message = 'this server has no ' .. method .. ' yet; a newer lsp-assist may have' }
  end
  done(not error and result or nil, error)
end

--- A server that was asked to end ends with 0 and is let go; any other is started again.
function M._ended(code, signal)
  local was_ready = state == 'ready'
  local is_wanted = code ~= 0 or (signal ~= 0 and signal ~= 15) or next(pending) ~= nil
  state = 'off'
  client = nil
  pcall(vim.api.nvim_del_augroup_by_name, 'lsp_assist_documents')
  if vim.v.exiting ~= vim.NIL then
    return
  end
  local age_s = (vim.loop.hrtime() - started_at) / 1e9
  n_deaths = age_s > STEADY_S and 1 or n_deaths + 1
  local is_again = was_ready and is_wanted and n_deaths <= MAX_DEATHS
  local how = ('exit code %d, signal %d'):format(code, signal)
  notice.log('the server ended: ' .. how)
  M._refuse(
    not was_ready and ('the server did not start (%s); see :checkhealth lsp_assist'):format(how)
      or is_again and ('the server ended (%s); it is started again'):format(how)
      or ('the server ended (%s)'):format(how)
  )
  if is_again then
    local delay = math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ^ (n_deaths - 1))
    vim.defer_fn(M.start, delay)
  end
end

--- Everything that waits for an answer gets this one.
function M._refuse(reason)
  local unanswered = {}
  for _, done in pairs(pending) do
    table.insert(unanswered, done)
  end
  for _, one in ipairs(waiting) do
    table.insert(unanswered, one[3])
  end
  pending = {}
  waiting = {}
  M._tell('lost', reason)
  for _, done in ipairs(unanswered) do
    done(nil, { message = reason })
  end
end

function M._tell(what, ...)
  for _, watcher in ipairs(watchers) do
    watcher[what](...)
  end
end

return M
