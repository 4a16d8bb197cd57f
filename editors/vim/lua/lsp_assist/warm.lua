--- Warming: the model reads the question while it is typed. Never blocks, never says anything unless
--- it was asked to.
---
--- The next turn has its id before it is asked, so that what is warmed and what is asked are one turn.

local chat_store = require('lsp_assist.chat')
local config = require('lsp_assist.config')
local notice = require('lsp_assist.notice')
local server = require('lsp_assist.server')

local M = {}

local PAUSE_MS = 100

local next_turn_id ---@type string|nil
local n_typed = 0

--- The id of the turn that will be asked next.
---@return string
function M.turn_id()
  next_turn_id = next_turn_id or chat_store.new_id()
  return next_turn_id
end

--- That turn was asked: the next one is another.
function M.asked()
  next_turn_id = nil
  M.left()
end

--- Something is still typed. `warm` is called when nothing more is for a moment; it may not move the
--- cursor nor say anything.
---@param warm fun()
function M.typed(warm)
  n_typed = n_typed + 1
  local n = n_typed
  if not config.options.warm or server.lacks('assist/warm') then
    return
  end
  vim.defer_fn(function()
    if n == n_typed then
      local is_well, error = pcall(warm)
      if not is_well then
        notice.log('while warming: ' .. tostring(error))
      end
    end
  end, PAUSE_MS)
end

--- What was typed was left, by asking it or by giving up.
function M.left()
  n_typed = n_typed + 1
end

--- Warms what the turn would show. Silent where nobody asked for it by name.
---@param chat lsp_assist.Chat
---@param turn lsp_assist.Turn
---@param params fun(chat: lsp_assist.Chat, turn: lsp_assist.Turn): table
---@param is_silent boolean
function M.send(chat, turn, params, is_silent)
  chat.warm = 'warming'
  chat_store.tell('changed', chat)
  server.request('assist/warm', params(chat, turn), function(result, error)
    chat.warm = result and result.tokens > 0 and 'warm ' .. result.tokens or ''
    chat_store.tell('changed', chat)
    if is_silent then
      return
    elseif error then
      notice.error('not warmed: ' .. error.message)
    else
      notice.info(('warm: %d tokens, %d of them already were, in %d ms'):format(result.tokens, result.cached, result.ms))
    end
  end)
end

return M
