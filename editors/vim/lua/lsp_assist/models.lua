--- Which model answers, and which modes there are.

local chat_store = require('lsp_assist.chat')
local notice = require('lsp_assist.notice')
local server = require('lsp_assist.server')

local M = {}

-- Those of a server that does not tell.
local modes = { 'ask', 'explain', 'refactor', 'fix', 'document', 'test' }
local models = {}
local asked_at = 0

--- Names of the modes. Asks the server for them, so that the next answer is the server's.
---@return string[]
function M.modes()
  M._learn()
  return modes
end

--- Names of the models, as far as they are known by now.
---@return string[]
function M.names()
  M._learn()
  return vim.tbl_map(function(model)
    return model.name
  end, models)
end

--- :QM: the chat goes on with a model; without a name it is picked.
---@param chat lsp_assist.Chat
---@param name string
function M.command(chat, name)
  if name ~= '' then
    M._choose(chat, (name:gsub('^@', '')))
    return
  end
  server.request('assist/models', {}, function(result, error)
    if server.lacks('assist/models') then
      M._tell_only()
    elseif error then
      notice.error(error.message)
    else
      models = result.models
      M._pick(chat)
    end
  end)
end

function M._pick(chat)
  local opts = {
    prompt = 'Model of this chat',
    kind = 'lsp_assist_model',
    format_item = function(model)
      return vim.trim(model.name .. '  ' .. (model.state or ''))
    end,
  }
  vim.ui.select(models, opts, function(model)
    if model then
      M._choose(chat, model.name)
    end
  end)
end

function M._choose(chat, name)
  chat.model = name
  chat_store.tell('changed', chat)
  notice.info('this chat goes on with ' .. name)
end

function M._tell_only()
  server.request('assist/status', {}, function(result, error)
    notice.info(error and error.message or 'this server has one model: ' .. result.model.name)
  end)
end

--- Once for each start of the server, and only if it runs: completion starts none.
function M._learn()
  if server.state() ~= 'ready' or asked_at == server.n_starts() then
    return
  end
  asked_at = server.n_starts()
  server.request('assist/modes', {}, function(result)
    local names = vim.tbl_map(function(mode)
      return mode.name
    end, result and result.modes or {})
    modes = #names > 0 and names or modes
  end)
  server.request('assist/models', {}, function(result)
    models = result and result.models or models
  end)
end

server.watch({
  event = function() end,
  lost = function() end,
  ready = M._learn,
})

return M
