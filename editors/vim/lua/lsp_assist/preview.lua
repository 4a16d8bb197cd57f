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
  local facts = { told.model, told.tokens .. ' tokens', told.cold .. ' of them cold' }
  table.insert(facts, told.window and 'window ' .. told.window)
  table.insert(facts, told.seconds and ('about %.1f s to the first text'):format(told.seconds))
  table.insert(facts, told.costUsd and ('$%.4f'):format(told.costUsd))
  local title = 'What the question would be asked with (q closes this page)'
  local lines = { title, '', table.concat(facts, ' · ') }
  for _, text in ipairs({ told.reason, told.note }) do
    if text ~= '' then
      table.insert(lines, (text:gsub('\n', ' ')))
    end
  end
  vim.list_extend(lines, { '', 'Tokens' })
  for _, piece in ipairs(told.pieces) do
    table.insert(lines, ('%6d  %s'):format(piece.tokens, M._named(piece)))
  end
  if told.historyTokens > 0 then
    table.insert(lines, ('%6d  of these are earlier turns'):format(told.historyTokens))
  end
  if told.nLeftOut > 0 then
    vim.list_extend(lines, { '', ('Left out: %d'):format(told.nLeftOut) })
    for _, left in ipairs(told.leftOut) do
      table.insert(lines, ('%6d  %s:%d  %s'):format(left.tokens, left.path, left.startLine + 1, left.why))
    end
  end
  return lines
end

function M._named(piece)
  local at = piece.path or ''
  if piece.path and piece.startLine and piece.endLine then
    at = ('%s:%d-%d'):format(piece.path, piece.startLine + 1, piece.endLine + 1)
  end
  local words = vim.tbl_filter(function(word)
    return word ~= ''
  end, { at, piece.level, piece.why })
  return ('%-10s %s'):format(piece.kind, (table.concat(words, '  '):gsub('\n', ' ')))
end

return M
