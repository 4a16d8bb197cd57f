--- :QC: the chats of this workspace, and one of them opened.

local chat_store = require('lsp_assist.chat')
local notice = require('lsp_assist.notice')
local server = require('lsp_assist.server')
local window = require('lsp_assist.window')

local M = {}

local known = {} -- of the last list

--- :QC [words of a title]
---@param words string
function M.command(words)
  server.request('assist/chats', {}, function(result, error)
    if error and not server.lacks('assist/chats') then
      notice.error(error.message)
      return
    elseif error then
      notice.info('this server keeps no chats yet: these are the chats of this Neovim')
    end
    M._list(words, result and result.chats or {})
  end)
end

--- Titles, for completion: those of the last list and of this Neovim.
---@return string[]
function M.titles()
  local titles = {}
  for _, chat in ipairs(known) do
    titles[chat.title] = true
  end
  for _, chat in ipairs(chat_store.all()) do
    titles[chat.title] = #chat.turns > 0 or nil
  end
  titles = vim.tbl_keys(titles)
  table.sort(titles)
  return titles
end

--- Fetches a chat that this Neovim does not know; its buffer is filled when it is there.
---@param id string
---@param done? fun(chat: lsp_assist.Chat)
function M.load(id, done)
  server.request('assist/chat', { chatId = id }, function(result, error)
    if error then
      notice.error(error.message)
      return
    end
    local chat = chat_store.add(result.chatId, result.title, M.branch(result))
    chat_store.tell('rewritten', chat)
    if done then
      done(chat)
    end
  end)
end

--- The turns of a chat as the server tells it, of the branch that a question would continue.
---@return lsp_assist.Turn[]
function M.branch(told)
  local by_id = {}
  for _, turn in ipairs(told.turns) do
    by_id[turn.turnId] = turn
  end
  local turns = {}
  local turn = by_id[told.lastTurnId] or told.turns[#told.turns]
  while turn do
    table.insert(turns, 1, M._turn(turn))
    turn = by_id[turn.parentTurnId]
  end
  return turns
end

--- A turn that is still running is so elsewhere: its end is not told to us.
function M._turn(told)
  local turn = chat_store.turn(told.turnId, told.text, told.mode or '', { spec = {}, labels = {}, excerpt = {} })
  turn.parts = { told.reply }
  turn.status = told.status == 'running' and 'cancelled' or told.status
  turn.sources = told.sources or {}
  return turn
end

function M._list(words, listed)
  local seen = {}
  for _, chat in ipairs(listed) do
    seen[chat.chatId] = true
  end
  for _, chat in ipairs(chat_store.all()) do
    if not seen[chat.id] and #chat.turns > 0 then
      table.insert(listed, { chatId = chat.id, title = chat.title, nTurns = #chat.turns })
    end
  end
  known = listed
  local found, same = {}, nil
  for _, chat in ipairs(listed) do
    if chat.title:lower():find(words:lower(), 1, true) then
      table.insert(found, chat)
    end
    same = same or (chat.title == words and chat or nil)
  end
  if #found == 0 then
    notice.info(words == '' and 'there are no chats yet' or 'no chat is called so')
  elseif same or (#found == 1 and words ~= '') then
    M._open(same or found[1])
  else
    M._pick(found)
  end
end

function M._pick(found)
  local opts = { prompt = 'Chats', kind = 'lsp_assist_chat', format_item = M._line }
  vim.ui.select(found, opts, function(chat)
    if chat then
      M._open(chat)
    end
  end)
end

function M._line(chat)
  local when = chat.updatedMs and os.date('%Y-%m-%d %H:%M  ', math.floor(chat.updatedMs / 1000)) or ''
  local n_turns = chat.nTurns or 0
  return when .. chat.title .. (n_turns > 1 and '  (' .. n_turns .. ' turns)' or '')
end

function M._open(listed)
  local chat = chat_store.get(listed.chatId)
  if chat then
    window.show(chat, true)
  else
    M.load(listed.chatId, function(loaded)
      window.show(loaded, vim.fn.mode() == 'n')
    end)
  end
end

return M
