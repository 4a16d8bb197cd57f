--- The prompt: a small window over the editor in which a question of any length is typed. It takes what
--- :Q takes (flags, @model, /mode), and is warmed while it is typed.

local chat_store = require('lsp_assist.chat')
local models = require('lsp_assist.models')
local notice = require('lsp_assist.notice')
local question = require('lsp_assist.question')
local server = require('lsp_assist.server')
local warm = require('lsp_assist.warm')

local M = {}

local KEYS = '<CR> asks · <C-j> new line · q closes'

---@class lsp_assist.Prompt
---@field chat lsp_assist.Chat
---@field context? lsp_assist.Context what is asked about, beside what the flags say
---@field from? table where the chat is to be forked with the question
---@field bufnr integer
---@field window integer
---@field origin integer the window that it was opened from
local prompt ---@type lsp_assist.Prompt|nil

local draft = '' -- what was typed and not asked

--- Opens it, with what was typed before and not asked.
---@param what { chat: lsp_assist.Chat, context?: lsp_assist.Context, from?: table }
function M.open(what)
  M.close()
  local bufnr = vim.api.nvim_create_buf(false, true)
  vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, vim.split(draft, '\n', { plain = true }))
  prompt = vim.tbl_extend('keep', { bufnr = bufnr, origin = vim.api.nvim_get_current_win() }, what)
  prompt.window = vim.api.nvim_open_win(bufnr, true, M._shape(1))
  vim.bo[bufnr].bufhidden = 'wipe'
  vim.bo[bufnr].filetype = 'lspassist_prompt'
  vim.wo[prompt.window].wrap = true
  vim.wo[prompt.window].linebreak = true
  M._map(bufnr)
  M._listen(bufnr)
  M._changed()
  vim.cmd('startinsert!')
end

--- Closes it; what was typed is there when it is opened again.
function M.close()
  if prompt then
    local closed = prompt
    prompt = nil
    warm.left()
    if vim.api.nvim_buf_is_valid(closed.bufnr) then
      draft = M._text(closed.bufnr)
    end
    if vim.api.nvim_win_is_valid(closed.window) then
      vim.api.nvim_win_close(closed.window, true)
    end
  end
end

--- Asks what stands there.
function M.submit()
  local asked = prompt
  if not asked then
    return
  end
  local text = M._text(asked.bufnr)
  if vim.trim(text) == '' then
    notice.info('there is no question yet')
    return
  end
  vim.cmd('stopinsert')
  M.close()
  draft = ''
  if vim.api.nvim_win_is_valid(asked.origin) then
    vim.api.nvim_set_current_win(asked.origin)
  end
  local ask = require('lsp_assist.ask')
  if asked.from then
    ask.fork(text, nil, false, asked.from)
    return
  end
  local parsed = question.parse(text, models.modes())
  local turn = ask.turn(parsed, nil)
  if not turn then
    draft = text
    return
  end
  M._join(turn.context, asked.context)
  local chat = M._chat(parsed, asked)
  if parsed.flags.w then
    warm.send(chat, turn, ask.params, false)
  else
    ask.ask(chat, turn, false)
  end
end

function M._text(bufnr)
  return table.concat(vim.api.nvim_buf_get_lines(bufnr, 0, -1, false), '\n')
end

function M._chat(parsed, asked)
  local chat = parsed.flags.n and chat_store.new() or asked.chat
  chat.model = parsed.model ~= '' and parsed.model or chat.model
  return chat
end

--- Adds what the prompt was opened about to what its flags say.
function M._join(context, given)
  if given then
    context.spec = vim.tbl_extend('force', context.spec, given.spec)
    context.labels = vim.list_extend(vim.deepcopy(given.labels), context.labels)
    context.excerpt = given.excerpt
  end
end

--- Where it stands, for so many lines of text.
function M._shape(n_lines)
  local width = math.max(20, math.min(90, vim.o.columns - 6))
  local height = math.max(1, math.min(n_lines, math.floor(vim.o.lines / 2)))
  return {
    relative = 'editor',
    row = math.max(0, vim.o.lines - vim.o.cmdheight - height - 4),
    col = math.floor((vim.o.columns - width) / 2),
    width = width,
    height = height,
    style = 'minimal',
    border = 'rounded',
  }
end

function M._map(bufnr)
  local function map(modes, keys, run, desc)
    vim.keymap.set(modes, keys, run, { buffer = bufnr, nowait = true, desc = desc })
  end
  map({ 'n', 'i' }, '<CR>', M.submit, 'Ask')
  map('i', '<C-j>', '<CR>', 'New line')
  map('i', '<S-CR>', '<CR>', 'New line')
  map('n', 'q', M.close, 'Close the prompt')
  map({ 'n', 'i' }, '<C-c>', function()
    vim.cmd('stopinsert')
    M.close()
  end, 'Close the prompt')
end

function M._listen(bufnr)
  local group = vim.api.nvim_create_augroup('lsp_assist_prompt', {})
  vim.api.nvim_create_autocmd({ 'TextChanged', 'TextChangedI', 'TextChangedP' }, {
    group = group,
    buffer = bufnr,
    callback = M._changed,
  })
  vim.api.nvim_create_autocmd('WinLeave', {
    group = group,
    buffer = bufnr,
    callback = vim.schedule_wrap(function()
      if prompt and prompt.bufnr == bufnr and vim.api.nvim_get_current_win() ~= prompt.window then
        M.close()
      end
    end),
  })
end

--- Fits the window to the text, says what it is about, and warms.
function M._changed()
  local here = prompt
  if not here then
    return
  end
  local width, n_rows = vim.api.nvim_win_get_width(here.window), 0
  for _, line in ipairs(vim.api.nvim_buf_get_lines(here.bufnr, 0, -1, false)) do
    n_rows = n_rows + math.max(1, math.ceil(vim.fn.strdisplaywidth(line) / width))
  end
  vim.api.nvim_win_set_config(here.window, M._shape(n_rows))
  M._tell(here)
  if here.from then
    return
  end
  warm.typed(function()
    if prompt == here then
      M._warm(here)
    end
  end)
end

--- Below the text, as virtual lines would move it: beside the first line while that is empty.
function M._tell(here)
  local namespace = vim.api.nvim_create_namespace('lsp_assist_prompt')
  vim.api.nvim_buf_clear_namespace(here.bufnr, namespace, 0, -1)
  if M._text(here.bufnr) == '' then
    local about = here.context and table.concat(here.context.labels, ', ') or ''
    local text = (here.from and 'Fork and ask' or about == '' and 'Ask' or 'Ask about ' .. about) .. '   ' .. KEYS
    vim.api.nvim_buf_set_extmark(here.bufnr, namespace, 0, 0, {
      virt_text = { { text, 'Comment' } },
      virt_text_pos = 'overlay',
    })
  end
end

function M._warm(here)
  local parsed = question.parse(M._text(here.bufnr), models.modes())
  local chat = M._chat(parsed, here)
  if parsed.error or chat_store.running(chat) then
    return
  end
  local context
  vim.api.nvim_win_call(vim.api.nvim_win_is_valid(here.origin) and here.origin or 0, function()
    context = question.context(parsed, nil, server.facts())
  end)
  if context then
    M._join(context, here.context)
    local turn = chat_store.turn(warm.turn_id(), parsed.text, parsed.mode, context)
    warm.send(chat, turn, require('lsp_assist.ask').params, true)
  end
end

return M
