--- A question on the command line, while it is typed. Called for each key of a command that is one.

local chat_store = require('lsp_assist.chat')
local config = require('lsp_assist.config')
local models = require('lsp_assist.models')
local place = require('lsp_assist.place')
local question = require('lsp_assist.question')
local server = require('lsp_assist.server')
local warm = require('lsp_assist.warm')

local M = {}

--- The command line has changed.
---@param line string
function M.changed(line)
  -- A fork reads what its chat has read, and its own chat is not there yet.
  local range, text = M._parse(line)
  if range and vim.fn.getcmdwintype() == '' then
    warm.typed(function()
      M._warm(range, text)
    end)
  end
end

--- The command line was left, by <CR> or <Esc>.
function M.left()
  warm.left()
end

--- The range and what is behind the command; nil if it is another command.
function M._parse(line)
  return line:match("^[ :]*([%d%.,%%$'<>]*)" .. vim.pesc(config.prefix()) .. '!?%s+(.*)$')
end

function M._warm(range, text)
  local asked = M._asked(range)
  local parsed = question.parse(text, models.modes())
  local is_empty = not asked and parsed.text == '' and not next(parsed.flags)
  if parsed.error or is_empty or (range ~= '' and not asked) then
    return
  end
  local ask = require('lsp_assist.ask')
  local chat = ask.chat({ flags = parsed.flags, model = '' })
  local context = question.context(parsed, asked, server.facts())
  if context and not chat_store.running(chat) then
    local turn = chat_store.turn(warm.turn_id(), parsed.text, parsed.mode, context)
    turn.model = parsed.model
    warm.send(chat, turn, ask.params, true)
  end
end

--- The range in front of the command, where it can be told without running it.
function M._asked(range)
  if range == "'<,'>" then
    return place.visual()
  elseif range == '%' then
    return place.lines(1, vim.fn.line('$'))
  end
  local lines = {}
  for word in range:gmatch('[^,]+') do
    local line = tonumber(word) or (word:match('^[.$]$') and vim.fn.line(word))
    if not line or line < 1 or line > vim.fn.line('$') then
      return nil
    end
    table.insert(lines, line)
  end
  if #lines == 0 or #lines > 2 then
    return nil
  end
  return place.lines(math.min(unpack(lines)), math.max(unpack(lines)))
end

return M
