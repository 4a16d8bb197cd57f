--- A chat as a buffer: Markdown to which is only ever added at its end, where an extmark stands.
--- Knows windows and cursors, which it leaves alone; nothing of the server's requests.

local chat_store = require('lsp_assist.chat')
local config = require('lsp_assist.config')
local layout = require('lsp_assist.layout')
local status = require('lsp_assist.status')

local M = {}

local SCHEME = 'lspassist://'
local PAUSE_MS = 16
local MAPS = {
  { 'n', '<CR>', 'ask', 'Ask in this chat' },
  { 'n', 'o', 'ask', 'Ask in this chat' },
  { 'n', 'gx', 'fork', 'Fork the chat at this turn' },
  { 'n', 'q', 'close', 'Close the chat' },
  { 'n', 'gf', 'source', 'Go to the source at the cursor' },
  { 'n', 'ga', 'edits', 'Look at the edits of this turn, and apply them' },
  { { 'n', 'x' }, ']]', 'forward', 'Next turn' },
  { { 'n', 'x' }, '[[', 'back', 'Previous turn' },
}

local namespace = vim.api.nvim_create_namespace('lsp_assist')

---@class lsp_assist.View
---@field bufnr integer
---@field chat_id string
---@field tail integer extmark at the end, where text is added
---@field turns table<integer, string> extmark where a turn begins -> its id
---@field sources table<integer, table> extmark of a line -> source
---@field folds table<integer, string|integer> line -> fold level
---@field n_shown table<string, integer> turn id -> parts that are in the buffer
---@field timer boolean whether more is about to be shown
---@field shown_at number
local views = {} ---@type table<integer, lsp_assist.View>

--- Shows the chat in this tab page. The cursor stays where it is unless the chat is to be entered.
---@param chat lsp_assist.Chat
---@param is_entered boolean
function M.show(chat, is_entered)
  if vim.fn.getcmdwintype() ~= '' then
    return
  end
  local bufnr = M._buffer(chat.id)
  local window = vim.fn.bufwinid(bufnr)
  if window == -1 then
    local here = vim.api.nvim_get_current_win()
    window = M._any_chat()
    if not window then
      local split = vim.o.columns >= 140 and 'botright vertical 80 split' or 'botright split'
      local view = vim.fn.winsaveview()
      vim.cmd('keepalt ' .. (config.options.split or split))
      window = vim.api.nvim_get_current_win()
      vim.api.nvim_win_set_buf(window, bufnr)
      vim.api.nvim_set_current_win(here)
      vim.fn.winrestview(view)
    else
      vim.api.nvim_win_set_buf(window, bufnr)
    end
    M._dress(window, chat)
  end
  if is_entered then
    vim.api.nvim_set_current_win(window)
  end
end

--- The id of the chat in this window, else of one in this tab page.
---@return string|nil
function M.chat_here()
  local view = views[vim.api.nvim_get_current_buf()]
  if view then
    return view.chat_id
  end
  local window = M._any_chat()
  return window and views[vim.api.nvim_win_get_buf(window)].chat_id
end

--- The turn at the cursor, if this window shows the chat.
---@param chat lsp_assist.Chat
---@return lsp_assist.Turn|nil
function M.turn_here(chat)
  local view = views[vim.api.nvim_get_current_buf()]
  if not view or view.chat_id ~= chat.id then
    return nil
  end
  local id
  for _, at in ipairs(M._turn_lines(view)) do
    if at[1] <= vim.fn.line('.') then
      id = at[2]
    end
  end
  for _, turn in ipairs(chat.turns) do
    if turn.id == id then
      return turn
    end
  end
end

--- The source at the cursor.
---@return table|nil
function M.source_here()
  local view = views[vim.api.nvim_get_current_buf()]
  local row = vim.fn.line('.') - 1
  for mark, source in pairs(view and view.sources or {}) do
    if M._row(view, mark) == row then
      return source
    end
  end
end

--- Moves to the n-th next turn, to an earlier one if n is negative.
---@param n integer
function M.go_to_turn(n)
  local here, lines = vim.fn.line('.'), {}
  for _, at in ipairs(M._turn_lines(views[vim.api.nvim_get_current_buf()])) do
    if n > 0 and at[1] > here then
      table.insert(lines, at[1])
    elseif n < 0 and at[1] < here then
      table.insert(lines, 1, at[1])
    end
  end
  vim.cmd("normal! m'")
  if #lines > 0 then
    vim.fn.cursor(lines[math.min(math.abs(n), #lines)], 1)
  elseif n > 0 then
    vim.fn.cursor(vim.fn.line('$'), 1)
  end
end

--- Closes this window, or shows another buffer in it if it is the only one.
function M.close()
  if vim.fn.winnr('$') > 1 or vim.fn.tabpagenr('$') > 1 then
    vim.cmd('close')
  else
    local other = vim.fn.bufnr('#')
    vim.cmd(other > 0 and other ~= vim.fn.bufnr('%') and 'buffer #' or 'enew')
  end
end

--- The text of a buffer of ours, after it was made and after `:edit`.
---@param bufnr integer
function M.read(bufnr)
  local id = vim.api.nvim_buf_get_name(bufnr):sub(#SCHEME + 1)
  M._prepare(bufnr, id)
  local chat = chat_store.get(id)
  if chat then
    M._render(chat)
  else
    require('lsp_assist.chats').load(id)
  end
end

--- 'foldexpr' of a chat.
function M.fold_level(line)
  local view = views[vim.api.nvim_get_current_buf()]
  return view and view.folds[line] or 0
end

--- 'foldtext' of a chat.
function M.fold_text()
  return '▸ ' .. vim.fn.getline(vim.v.foldstart):sub(#layout.BAR + 1)
end

--- What a buffer is while it shows a chat.
function M._prepare(bufnr, id)
  vim.api.nvim_buf_clear_namespace(bufnr, namespace, 0, -1)
  local view = { bufnr = bufnr, chat_id = id, turns = {}, sources = {}, folds = {}, n_shown = {} }
  view.timer = false
  view.shown_at = 0
  views[bufnr] = view
  vim.b[bufnr].lsp_assist_chat = id
  local options = { buftype = 'nofile', bufhidden = 'hide', swapfile = false, undolevels = -1, modifiable = false }
  for option, value in pairs(options) do
    vim.bo[bufnr][option] = value
  end
  if vim.bo[bufnr].filetype ~= 'lspassist' then
    for _, map in ipairs(MAPS) do
      local opts = { buffer = bufnr, remap = true, desc = map[4] }
      vim.keymap.set(map[1], map[2], '<Plug>(lsp-assist-in-chat-' .. map[3] .. ')', opts)
    end
    vim.bo[bufnr].filetype = 'lspassist'
  end
  view.tail = vim.api.nvim_buf_set_extmark(bufnr, namespace, 0, 0, { right_gravity = true })
  return view
end

--- The chat's buffer, made and written if need be.
function M._buffer(id)
  local bufnr = vim.fn.bufadd(SCHEME .. id)
  vim.fn.bufload(bufnr)
  if not views[bufnr] then
    M.read(bufnr)
  end
  return bufnr
end

--- The view of a chat whose buffer is loaded.
function M._view(chat)
  for bufnr, view in pairs(views) do
    if view.chat_id == chat.id and vim.api.nvim_buf_is_loaded(bufnr) then
      return view
    end
  end
end

--- A window of this tab page that shows a chat.
function M._any_chat()
  for _, window in ipairs(vim.api.nvim_tabpage_list_wins(0)) do
    if views[vim.api.nvim_win_get_buf(window)] then
      return window
    end
  end
end

--- Options of a window that shows a chat. The buffer's own are set in _prepare.
function M._dress(window, chat)
  local options = {
    foldmethod = 'expr',
    foldexpr = "v:lua.require'lsp_assist.window'.fold_level(v:lnum)",
    foldtext = "v:lua.require'lsp_assist.window'.fold_text()",
    foldlevel = 0,
    foldenable = true,
    wrap = true,
    linebreak = true,
    list = false,
    number = false,
    relativenumber = false,
    spell = false,
    signcolumn = 'no',
    colorcolumn = '',
    conceallevel = 0,
  }
  for option, value in pairs(options) do
    status.set_local(window, option, value)
  end
  local bufnr = vim.api.nvim_win_get_buf(window)
  vim.api.nvim_win_set_cursor(window, { vim.api.nvim_buf_line_count(bufnr), 0 })
  status.show(chat, bufnr)
end

function M._row(view, mark)
  return vim.api.nvim_buf_get_extmark_by_id(view.bufnr, namespace, mark, {})[1]
end

--- `{ line, turn id }` in order.
function M._turn_lines(view)
  local lines = {}
  for mark, id in pairs(view and view.turns or {}) do
    table.insert(lines, { M._row(view, mark) + 1, id })
  end
  table.sort(lines, function(a, b)
    return a[1] < b[1]
  end)
  return lines
end

--- Adds text at the end. Windows whose cursor is on the last line go on showing it: not the one in
--- which the user selects something or is in the middle of a command.
---@param view lsp_assist.View
---@param lines string[] the first goes on with the last line
function M._add(view, lines)
  local at = vim.api.nvim_buf_get_extmark_by_id(view.bufnr, namespace, view.tail, {})
  local followers = {}
  for _, window in ipairs(vim.fn.win_findbuf(view.bufnr)) do
    local is_free = window ~= vim.api.nvim_get_current_win() or vim.api.nvim_get_mode().mode == 'n'
    if is_free and vim.api.nvim_win_get_cursor(window)[1] > at[1] then
      table.insert(followers, window)
    end
  end
  vim.bo[view.bufnr].modifiable = true
  vim.api.nvim_buf_set_text(view.bufnr, at[1], at[2], at[1], at[2], lines)
  vim.bo[view.bufnr].modifiable = false
  for _, window in ipairs(followers) do
    vim.api.nvim_win_set_cursor(window, { at[1] + #lines, 0 })
  end
  -- On a command line, Neovim draws nothing by itself until a key is pressed. It does in all other
  -- modes, and at "Press ENTER" a redraw would wipe the message.
  if vim.fn.mode() == 'c' and vim.fn.bufwinid(view.bufnr) ~= -1 then
    vim.cmd('redraw')
  end
end

--- What stands above a reply.
function M._add_head(view, turn)
  local first = M._n_lines(view)
  M._place(view, layout.head(turn))
  view.turns[vim.api.nvim_buf_set_extmark(view.bufnr, namespace, first - 1, 0, {})] = turn.id
  view.n_shown[turn.id] = 0
end

--- What there is of the reply that is not shown yet.
function M._add_reply(view, turn)
  local n_shown = view.n_shown[turn.id] or 0
  if n_shown < #turn.parts then
    view.n_shown[turn.id] = #turn.parts
    local text = table.concat(turn.parts, '', n_shown + 1)
    -- Neovim has a NUL in a line as a line feed, which no text may hold.
    M._add(view, vim.split(text:gsub('%z', '␀'), '\n', { plain = true }))
  end
end

--- Adds lines of which some are folded and some are sources.
---@param view lsp_assist.View
---@param laid lsp_assist.Laid
function M._place(view, laid)
  local first = M._n_lines(view)
  -- Before the lines are there: Neovim asks for the fold level of a line when it is added.
  for n, level in pairs(laid.folds) do
    view.folds[first + n - 1] = level
  end
  M._add(view, laid.lines)
  for n, source in pairs(laid.sources) do
    view.sources[vim.api.nvim_buf_set_extmark(view.bufnr, namespace, first + n - 2, 0, {})] = source
  end
end

function M._n_lines(view)
  return vim.api.nvim_buf_line_count(view.bufnr)
end

--- Writes the whole chat anew.
function M._render(chat)
  local view = M._view(chat)
  if not view then
    return
  end
  vim.bo[view.bufnr].modifiable = true
  vim.api.nvim_buf_set_lines(view.bufnr, 0, -1, false, {})
  view = M._prepare(view.bufnr, chat.id)
  for _, turn in ipairs(chat.turns) do
    M._begin(view, turn)
    M._add_reply(view, turn)
    if turn.status ~= 'running' then
      M._place(view, layout.tail(turn))
    end
  end
  status.show(chat, view.bufnr)
end

function M._begin(view, turn)
  if M._n_lines(view) > 1 then
    M._add(view, { '', '' })
  end
  M._add_head(view, turn)
end

--- A turn was asked.
function M._begun(chat, turn)
  local view = M._view(chat)
  if view then
    M._begin(view, turn)
    status.show(chat, view.bufnr)
  end
end

--- There is more of the reply. It is shown at once, or a moment later if some was just shown: a flood
--- must not keep Neovim from its user.
function M._said(chat, turn)
  local view = M._view(chat)
  if not view or view.timer then
    return
  elseif view.n_shown[turn.id] == 0 then
    turn.step = 'answering'
    status.show(chat, view.bufnr)
  end
  if (vim.loop.hrtime() - view.shown_at) / 1e6 >= PAUSE_MS then
    M._add_reply(view, turn)
    view.shown_at = vim.loop.hrtime()
  else
    view.timer = true
    vim.defer_fn(function()
      view.timer = false
      if views[view.bufnr] == view and turn.status == 'running' and vim.api.nvim_buf_is_loaded(view.bufnr) then
        M._add_reply(view, turn)
        view.shown_at = vim.loop.hrtime()
      end
    end, PAUSE_MS)
  end
end

--- A turn has ended, in whatever way.
function M._ended(chat, turn)
  local view = M._view(chat)
  if view then
    M._add_reply(view, turn)
    M._place(view, layout.tail(turn))
    status.show(chat, view.bufnr)
  end
end

chat_store.watch({
  begun = M._begun,
  said = M._said,
  ended = M._ended,
  rewritten = M._render,
  changed = function(chat)
    local view = M._view(chat)
    if view then
      status.show(chat, view.bufnr)
    end
  end,
})

vim.api.nvim_create_autocmd({ 'BufUnload', 'BufWipeout' }, {
  group = vim.api.nvim_create_augroup('lsp_assist_window', {}),
  pattern = SCHEME .. '*',
  callback = function(event)
    views[event.buf] = nil
  end,
})

return M
