--- Chats as this Neovim knows them: turns, and what the server says of them while they run.
--- Knows no window and no buffer; who watches is told what changed.

local config = require('lsp_assist.config')
local server = require('lsp_assist.server')

local M = {}

---@class lsp_assist.Turn
---@field id string
---@field text string
---@field mode string
---@field model string
---@field context lsp_assist.Context
---@field parts string[] of the reply
---@field status 'running'|'done'|'cancelled'|'error'
---@field step string
---@field error string
---@field usage table|nil
---@field sources table[]
---@field edit table|nil what the reply proposes to change

---@class lsp_assist.Chat
---@field id string
---@field title string
---@field model string
---@field turns lsp_assist.Turn[]
---@field next function|nil asks what waits for the end of the running turn
---@field warm string what is warm, for the status line

local chats = {} ---@type table<string, lsp_assist.Chat>
local running = {} ---@type table<string, lsp_assist.Turn>
local last ---@type string|nil
local watchers = {}

math.randomseed(vim.loop.hrtime() % 2 ^ 31)

--- A version 4 UUID.
---@return string
function M.new_id()
  local id = ('xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx'):gsub('[xy]', function(digit)
    return ('%x'):format(digit == 'x' and math.random(0, 15) or math.random(8, 11))
  end)
  return id
end

--- Tells of turns: `begun`, `said`, `ended`, `changed` (what the status line says), `rewritten`.
---@param watcher table<string, fun(chat: lsp_assist.Chat, turn: lsp_assist.Turn)>
function M.watch(watcher)
  table.insert(watchers, watcher)
end

---@return lsp_assist.Chat|nil
function M.get(id)
  return chats[id]
end

---@return lsp_assist.Chat[]
function M.all()
  return vim.tbl_values(chats)
end

--- The chat that a question belongs to: the one with this id, if there is one, else the last one used.
---@param id string|nil
---@return lsp_assist.Chat
function M.current(id)
  return chats[id or ''] or chats[last or ''] or M.new()
end

--- A chat without turns; there is never more than one.
---@return lsp_assist.Chat
function M.new()
  for _, chat in pairs(chats) do
    if #chat.turns == 0 then
      chat.model = config.options.model
      last = chat.id
      return chat
    end
  end
  return M.add(M.new_id(), '', {})
end

--- A chat with turns that have ended; it becomes the last one used.
---@return lsp_assist.Chat
function M.add(id, title, turns)
  local model = chats[id] and chats[id].model or config.options.model
  chats[id] = { id = id, title = title, model = model, turns = turns, warm = '' }
  last = id
  return chats[id]
end

--- A turn that was not asked yet.
---@return lsp_assist.Turn
function M.turn(id, text, mode, context)
  return {
    id = id,
    text = text,
    mode = mode,
    model = '',
    context = context,
    parts = {},
    status = 'running',
    step = '',
    error = '',
    sources = {},
  }
end

--- The turn joins its chat and runs: its events are listened for.
---@param chat lsp_assist.Chat
---@param turn lsp_assist.Turn
function M.begin(chat, turn)
  running[turn.id] = turn
  last = chat.id
  if chat.title == '' then
    local text = turn.text ~= '' and turn.text:gsub('%s+', ' ') or table.concat(turn.context.labels, ', ')
    chat.title = vim.fn.strcharpart(text, 0, 60)
  end
  table.insert(chat.turns, turn)
  M.tell('begun', chat, turn)
end

--- The turn that runs in a chat.
---@return lsp_assist.Turn|nil
function M.running(chat)
  local turn = chat.turns[#chat.turns]
  return turn and turn.status == 'running' and turn or nil
end

---@return integer
function M.n_running()
  return vim.tbl_count(running)
end

---@return string
function M.reply(turn)
  return table.concat(turn.parts)
end

--- Tells who watches.
function M.tell(what, chat, turn)
  for _, watcher in ipairs(watchers) do
    if watcher[what] then
      watcher[what](chat, turn)
    end
  end
end

--- What a request answered that ran a turn. The events have told it all, unless one was lost.
---@param chat_id string
---@param turn lsp_assist.Turn
---@param result table|nil
---@param error table|nil
function M.answered(chat_id, turn, result, error)
  local chat = chats[chat_id]
  if not chat then
    return
  elseif not result then
    if turn.status == 'running' then
      M._end(chat, turn, 'error', error and error.message or 'no answer')
    end
    return
  end
  turn.usage = result.usage or turn.usage
  turn.sources = result.sources or turn.sources
  local is_whole = result.text == M.reply(turn)
  turn.parts = is_whole and turn.parts or { result.text }
  if turn.status == 'running' then
    M._end(chat, turn, result.status, result.error and result.error.message or '')
  end
  M.tell(is_whole and 'changed' or 'rewritten', chat, turn)
end

--- An event of the server. One of a turn that ended here, or of none, is dropped.
function M._event(event)
  local chat, turn = chats[event.chatId], running[event.turnId]
  if event.kind == 'title' and chat then
    chat.title = event.title
    M.tell('changed', chat, turn)
  elseif not chat or not turn then
    return
  elseif event.kind == 'delta' then
    table.insert(turn.parts, event.text)
    M.tell('said', chat, turn)
  elseif event.kind == 'step' then
    turn.step = event.text
    M.tell('changed', chat, turn)
  elseif event.kind == 'usage' then
    turn.usage = event.usage
  elseif event.kind == 'edit' then
    turn.edit = event
  elseif vim.tbl_contains({ 'done', 'cancelled', 'error' }, event.kind) then
    turn.sources = event.sources or {}
    M._end(chat, turn, event.kind, event.error and event.error.message or '')
  end
end

function M._end(chat, turn, status, error)
  turn.status = status
  turn.error = error
  turn.step = ''
  running[turn.id] = nil
  M.tell('ended', chat, turn)
  local next_one = chat.next
  chat.next = nil
  if next_one then
    next_one()
  end
end

--- The server is gone: what ran has ended.
function M._lost(reason)
  for _, chat in pairs(chats) do
    chat.warm = ''
    local turn = M.running(chat)
    if turn then
      chat.next = nil
      M._end(chat, turn, 'error', reason)
    end
  end
end

server.watch({
  event = M._event,
  lost = M._lost,
  ready = function()
    for _, chat in pairs(chats) do
      M.tell('changed', chat)
    end
  end,
})

return M
