--- The server's code actions, and their commands as this client runs them: in a chat window.

local notice = require('lsp_assist.notice')

local M = {}

local NAMES = { 'ask', 'explain', 'refactor', 'fix', 'document', 'test' }

--- Commands by name, as |vim.lsp| wants them.
---@return table<string, function>
function M.commands()
  local commands = {}
  for _, name in ipairs(NAMES) do
    commands['lsp-assist.' .. name] = M._run
  end
  return commands
end

--- :QA: what there is to do with the lines.
---@param asked lsp_assist.Asked|nil
function M.menu(asked)
  local place = require('lsp_assist.place')
  local server = require('lsp_assist.server')
  asked = asked or place.visual()
  if not asked then
    notice.error('nothing was selected in this buffer')
    return
  end
  server.attach(asked.bufnr)
  local params = {
    textDocument = { uri = vim.uri_from_bufnr(asked.bufnr) },
    range = place.range(asked, server.facts().encoding),
    context = { diagnostics = {}, triggerKind = 1 },
  }
  server.request('textDocument/codeAction', params, function(result, error)
    if error then
      notice.error(error.message)
    elseif not result or #result == 0 then
      notice.info('there is nothing to do here')
    else
      M._pick(result)
    end
  end)
end

function M._pick(offers)
  local opts = {
    prompt = 'Assistant',
    kind = 'codeaction',
    format_item = function(offer)
      return (offer.title:gsub('^Assistant: ', ''))
    end,
  }
  vim.ui.select(offers, opts, function(offer)
    if offer then
      M._run(type(offer.command) == 'table' and offer.command or offer)
    end
  end)
end

--- What a command stands for, asked in a new chat; "ask" opens the prompt.
function M._run(command)
  local argument = command.arguments[1]
  local range = argument.range
  local bufnr = vim.uri_to_bufnr(argument.uri)
  vim.fn.bufload(bufnr)
  local asked = { bufnr = bufnr, first = range.start.line + 1, last = range['end'].line + 1 }
  if range['end'].character == 0 and asked.last > asked.first then
    asked.last = asked.last - 1
  end
  local chat_store = require('lsp_assist.chat')
  local ask = require('lsp_assist.ask')
  local mode = command.command:match('[^.]+$')
  local turn = ask.turn({ flags = {}, mode = mode, text = argument.text or '' }, asked)
  if not turn then
    return
  end
  turn.context.spec.selection = { uri = argument.uri, range = range, version = argument.version }
  if mode == 'ask' then
    require('lsp_assist.prompt').open({ chat = chat_store.current(), context = turn.context })
  else
    ask.ask(chat_store.new(), turn, false)
  end
end

return M
