--- The status line of a chat: model, warm or cold, what runs, what it took.

local chat_store = require('lsp_assist.chat')
local config = require('lsp_assist.config')
local server = require('lsp_assist.server')

local M = {}

local HAS_08 = vim.fn.has('nvim-0.8') == 1

--- Sets an option of a window and of no other.
function M.set_local(window, name, value)
  if HAS_08 then
    vim.api.nvim_set_option_value(name, value, { scope = 'local', win = window })
  else
    vim.api.nvim_win_set_option(window, name, value)
  end
end

--- Shows it in all windows of the chat's buffer.
---@param chat lsp_assist.Chat
---@param bufnr integer
function M.show(chat, bufnr)
  local text = table.concat(M._parts(chat), ' · ')
  vim.b[bufnr].lsp_assist_status = text
  if not config.options.statusline then
    return
  end
  local title = chat.title == '' and 'New chat' or chat.title
  local function escaped(said)
    return (said:gsub('%%', '%%%%'):gsub('%c', ' '))
  end
  local line = ' ' .. escaped(text) .. ' %<%= ' .. escaped(title) .. ' '
  -- One status line for all windows would tell only of the current one.
  local option = HAS_08 and vim.o.laststatus == 3 and 'winbar' or 'statusline'
  for _, window in ipairs(vim.fn.win_findbuf(bufnr)) do
    if vim.api.nvim_win_get_config(window).relative == '' then
      M.set_local(window, option, line)
    end
  end
end

function M._parts(chat)
  local turn = chat.turns[#chat.turns] or {}
  local usage = turn.usage
  local parts = { chat.model ~= '' and chat.model or usage and usage.model or 'lsp-assist' }
  if turn.status == 'running' then
    local step = server.state() == 'ready' and 'asking' or 'starting the server'
    table.insert(parts, turn.step ~= '' and turn.step or step)
    local n_others = chat_store.n_running() - 1
    if n_others > 0 then
      table.insert(parts, n_others .. ' more in the queue')
    end
    if chat.next then
      table.insert(parts, '1 question waits')
    end
  elseif usage then
    local n_cold = usage.promptTokens - usage.cachedTokens
    table.insert(parts, ('%d tokens, %d cold'):format(usage.promptTokens, n_cold))
    if usage.tokensPerSecond > 0 then
      table.insert(parts, ('%.1f tokens/s'):format(usage.tokensPerSecond))
    end
    if usage.costUsd then
      table.insert(parts, ('$%.4f'):format(usage.costUsd))
    end
  end
  if chat.warm ~= '' then
    table.insert(parts, chat.warm)
  end
  return parts
end

return M
