--- :QI: what would be shown to the model, what of it is warm, and what it would cost.

local notice = require('lsp_assist.notice')
local page = require('lsp_assist.page')

local M = {}

--- Shows what `assist/context` answered.
---@param told table|nil
---@param error table|nil
function M.show(told, error)
  if not told then
    notice.error(error and error.message or 'no answer')
    return
  end
  page.show('context', M.lines(told))
end

--- The page for what `assist/context` answered.
---@return string[]
function M.lines(told)
  local cost = { told.model, told.tokens .. ' tokens' .. (told.window and ' of ' .. told.window or '') }
  table.insert(cost, told.warm and told.warm .. ' warm' or nil)
  table.insert(cost, told.cold .. ' to compute')
  table.insert(cost, told.seconds and ('%.1f s to the first word'):format(told.seconds) or nil)
  table.insert(cost, told.costUsd and ('$%.4f'):format(told.costUsd) or nil)
  local lines = { 'What would be sent (q closes this page)', '', table.concat(cost, ' · ') }
  for _, text in ipairs({ told.reason, told.note }) do
    if text ~= '' then
      table.insert(lines, (text:gsub('\n', ' ')))
    end
  end
  vim.list_extend(lines, { '', 'tokens  what' })
  for _, piece in ipairs(told.pieces) do
    table.insert(lines, ('%6d  %s'):format(piece.tokens, M._named(piece)))
  end
  if told.historyTokens > 0 then
    table.insert(lines, ('%6d  in turns before the question'):format(told.historyTokens))
  end
  if told.nLeftOut > 0 then
    vim.list_extend(lines, { '', ('%d places did not fit'):format(told.nLeftOut) })
    for _, left in ipairs(told.leftOut) do
      table.insert(lines, ('%6d  %s:%d  %s'):format(left.tokens, left.path, left.startLine + 1, left.why))
    end
  end
  return lines
end

function M._named(piece)
  local at = piece.path or ''
  if piece.path and piece.startLine then
    at = ('%s:%d-%d'):format(piece.path, piece.startLine + 1, (piece.endLine or piece.startLine) + 1)
  end
  local words = {}
  for _, word in ipairs({ piece.kind, piece.level, at, piece.why }) do
    if word ~= '' then
      table.insert(words, (word:gsub('\n', ' ')))
    end
  end
  return table.concat(words, '  ')
end

return M
