--- :Q, :QF, :QW, :QX, :QI and :QR: from what was typed to a request.

local chat_store = require('lsp_assist.chat')
local models = require('lsp_assist.models')
local notice = require('lsp_assist.notice')
local place = require('lsp_assist.place')
local question = require('lsp_assist.question')
local server = require('lsp_assist.server')
local warm = require('lsp_assist.warm')
local window = require('lsp_assist.window')

local M = {}

--- :Q. Without a question and a selection the chat is opened, and the prompt over it.
---@param typed string
---@param asked lsp_assist.Asked|nil
---@param is_urgent boolean
function M.command(typed, asked, is_urgent)
  local parsed = question.parse(typed, models.modes())
  if parsed.flags.w then
    M.warm(typed, asked)
    return
  end
  if not parsed.error and parsed.text == '' and not asked and not parsed.flags.s then
    local chat = M.chat(parsed)
    window.show(chat, false)
    require('lsp_assist.prompt').open({ chat = chat })
    return
  end
  local turn = M.turn(parsed, asked)
  if turn then
    M.ask(M.chat(parsed), turn, is_urgent)
  end
end

--- :QF: the chat up to the turn at the cursor, or up to its last one, goes on in a chat of its own.
---@param typed string empty if only the fork is wanted
---@param asked lsp_assist.Asked|nil
---@param is_urgent boolean
---@param from? { chat: lsp_assist.Chat, turn: lsp_assist.Turn } where to fork, if not here
function M.fork(typed, asked, is_urgent, from)
  from = from or M.fork_point()
  if not from then
    return
  end
  local parsed = question.parse(typed, models.modes())
  local turn = typed ~= '' and M.turn(parsed, asked) or nil
  if typed ~= '' and not turn then
    return
  end
  local params = { chatId = from.chat.id, turnId = from.turn.id, newChatId = chat_store.new_id() }
  server.request('assist/fork', params, function(_, error)
    if error then
      notice.error('not forked: ' .. error.message)
      return
    end
    local shared = {}
    for _, one in ipairs(from.chat.turns) do
      table.insert(shared, one)
      if one == from.turn then
        break
      end
    end
    local chat = chat_store.add(params.newChatId, '', shared)
    chat.model = parsed.model ~= '' and parsed.model or from.chat.model
    if turn then
      M.ask(chat, turn, is_urgent)
    else
      chat.title = 'Fork of ' .. from.chat.title
      window.show(chat, false)
    end
  end)
end

--- Where a fork would begin; nil, which the user was told, if nowhere.
function M.fork_point()
  local chat = M.current()
  local turn = window.turn_here(chat)
  for n = #chat.turns, 1, -1 do
    if not turn and vim.tbl_contains({ 'done', 'cancelled' }, chat.turns[n].status) then
      turn = chat.turns[n]
    end
  end
  if turn and vim.tbl_contains({ 'done', 'cancelled' }, turn.status) then
    return { chat = chat, turn = turn }
  end
  notice.error(#chat.turns == 0 and 'there is no turn to fork' or 'a turn can be forked when it has ended')
end

--- :QW and :Q -w: the model reads what a question would show it, and answers nothing.
function M.warm(typed, asked)
  local parsed = question.parse(typed, models.modes())
  local turn = M.turn(parsed, asked)
  if turn then
    warm.send(M.chat(parsed), turn, M.params, false)
  end
end

--- :QX
function M.cancel()
  local chat = M.current()
  chat.next = nil
  local turn = chat_store.running(chat)
  if turn then
    M._cancel(turn)
  else
    notice.info('no reply is running in this chat')
  end
end

--- :QR: the selected code is mended until its tests pass.
function M.repair(typed, asked)
  asked = asked or place.visual()
  if not asked then
    notice.error('nothing was selected in this buffer')
    return
  end
  local turn = M.turn(question.parse('', {}), asked)
  if not turn or not turn.context.spec.selection then
    return
  end
  turn.text = typed == '' and 'Repair this.' or 'Repair this; tests: ' .. typed
  local chat = chat_store.new()
  local selection = turn.context.spec.selection
  M._send('assist/repair', chat, turn, {
    chatId = chat.id,
    turnId = turn.id,
    uri = selection.uri,
    range = selection.range,
    tests = typed ~= '' and typed or nil,
  })
end

--- :QI: what the question would show to the model, and what that would cost.
function M.preview(typed, asked)
  local parsed = question.parse(typed, models.modes())
  local turn = M.turn(parsed, asked)
  if turn then
    local params = M.params(M.chat(parsed), turn)
    server.request('assist/context', params, require('lsp_assist.preview').show)
  end
end

--- Asks a turn in a chat. While another one runs there it waits, or ends that one if it is urgent.
---@param chat lsp_assist.Chat
---@param turn lsp_assist.Turn
---@param is_urgent boolean
function M.ask(chat, turn, is_urgent)
  local function send()
    M._send('assist/ask', chat, turn, M.params(chat, turn))
  end
  local running = chat_store.running(chat)
  if not running then
    send()
    return
  end
  chat.next = send
  if is_urgent then
    M._cancel(running)
  else
    notice.info('asked when the reply that is running has ended')
    chat_store.tell('changed', chat, running)
  end
end

--- What `assist/ask` takes, and with it `assist/warm` and `assist/context`.
---@return table
function M.params(chat, turn)
  local model = turn.model ~= '' and turn.model or chat.model
  return {
    chatId = chat.id,
    turnId = turn.id,
    text = turn.text,
    mode = turn.mode ~= '' and turn.mode or nil,
    model = model ~= '' and model or nil,
    context = next(turn.context.spec) and turn.context.spec or nil,
  }
end

--- A turn for the question; nil if there is none, which the user was told.
---@return lsp_assist.Turn|nil
function M.turn(parsed, asked)
  local error = parsed.error
  local context
  if not error then
    context, error = question.context(parsed, asked, server.facts())
  end
  if error then
    notice.error(error)
    return nil
  end
  server.attach(vim.api.nvim_get_current_buf())
  return chat_store.turn(warm.turn_id(), parsed.text, parsed.mode, context)
end

--- The chat that a question goes to, with the model that it names.
---@param parsed lsp_assist.Question
---@return lsp_assist.Chat
function M.chat(parsed)
  local chat = parsed.flags.n and chat_store.new() or M.current()
  chat.model = parsed.model ~= '' and parsed.model or chat.model
  return chat
end

--- The chat in this window, else in this tab page, else the last one used.
---@return lsp_assist.Chat
function M.current()
  return chat_store.current(window.chat_here())
end

function M._send(method, chat, turn, params)
  warm.asked()
  chat_store.begin(chat, turn)
  window.show(chat, false)
  server.request(method, params, function(result, error)
    chat_store.answered(chat.id, turn, result, error)
  end)
end

function M._cancel(turn)
  server.request('assist/cancel', { turnId = turn.id }, function(_, error)
    if error then
      notice.error(error.message)
    end
  end)
end

return M
