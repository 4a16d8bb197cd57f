--- Completion of what is typed after the commands. Waits for nothing: what is not known yet is missing.

local config = require('lsp_assist.config')
local models = require('lsp_assist.models')
local question = require('lsp_assist.question')

local M = {}

--- Flags, @models and /modes, in front of the question.
function M.question(lead, line, position)
  local before = line:sub(1, position - #lead)
  before = before:match(vim.pesc(config.prefix()) .. '%a?!?%s+(.*)$') or ''
  for word in before:gmatch('%S+') do
    if not word:match('^[-@/]') then
      return {}
    end
  end
  local words = {}
  if lead == '' or lead:match('^%-') then
    for _, letter in ipairs(question.letters()) do
      if not lead:find(letter, 1, true) then
        table.insert(words, (lead == '' and '-' or lead) .. letter)
      end
    end
  end
  if lead == '' or lead:match('^/') then
    vim.list_extend(words, vim.tbl_map(function(name)
      return '/' .. name
    end, models.modes()))
  end
  if lead:match('^@') then
    words = vim.tbl_map(function(name)
      return '@' .. name
    end, models.names())
  end
  return M._starting(words, lead)
end

function M.models(lead)
  return M._starting(models.names(), lead)
end

function M.chats(lead)
  return M._starting(require('lsp_assist.chats').titles(), lead)
end

function M._starting(words, lead)
  return vim.tbl_filter(function(word)
    return vim.startswith(word:lower(), lead:lower())
  end, words)
end

return M
