--- What stands around a reply in a chat, as lines of Markdown. Knows no buffer.

local M = {}

--- Begins the lines of what was shown to the model.
M.BAR = '▏ '

---@class lsp_assist.Laid
---@field lines string[] the first goes on with the last line of the chat
---@field folds table<integer, string|integer> index of a line -> its fold level
---@field sources table<integer, table> index of a line -> the source that it names

--- What stands above a reply: the question and, folded, what was shown with it.
---@param turn lsp_assist.Turn
---@return lsp_assist.Laid
function M.head(turn)
  local lines = { '# You' .. (turn.mode == '' and '' or ' /' .. turn.mode), '' }
  local laid = { lines = lines, folds = {}, sources = {} }
  if #turn.context.labels > 0 then
    local shown = { M.BAR .. table.concat(turn.context.labels, ', ') }
    for _, line in ipairs(turn.context.excerpt) do
      table.insert(shown, M.BAR .. '  ' .. line)
    end
    M._fold(laid, #shown)
    vim.list_extend(lines, shown)
    table.insert(lines, '')
  end
  if turn.text ~= '' then
    vim.list_extend(lines, vim.split(turn.text, '\n', { plain = true }))
    table.insert(lines, '')
  end
  vim.list_extend(lines, { '# Assistant', '', '' })
  return laid
end

--- What stands below a reply that has ended: how, if not well, what it would change and, folded, what
--- the model read.
---@param turn lsp_assist.Turn
---@return lsp_assist.Laid
function M.tail(turn)
  local lines = { '', '' }
  local laid = { lines = lines, folds = {}, sources = {} }
  for _, text in ipairs(M._remarks(turn)) do
    vim.list_extend(lines, { '*' .. text:gsub('\n', ' ') .. '*', '' })
  end
  local n = #turn.sources
  if n > 0 then
    M._fold(laid, n + 1)
    table.insert(lines, M.BAR .. (n == 1 and '1 source' or n .. ' sources'))
    for _, source in ipairs(turn.sources) do
      local at = ('%s:%d-%d'):format(source.path, source.startLine + 1, source.endLine + 1)
      table.insert(lines, (('%s  %s  %s'):format(M.BAR, at, source.symbol):gsub('%s+$', '')))
      laid.sources[#lines] = source
    end
    table.insert(lines, '')
  end
  return laid
end

function M._remarks(turn)
  local remarks = {}
  if turn.status == 'cancelled' then
    table.insert(remarks, 'Cancelled.')
  elseif turn.status == 'error' then
    table.insert(remarks, turn.error)
  end
  local paths = vim.tbl_map(function(file)
    return file.path
  end, turn.edit and turn.edit.files or {})
  if #paths > 0 then
    table.insert(remarks, 'Proposes changes of ' .. table.concat(paths, ', ') .. ': ga shows them.')
  end
  for _, refused in ipairs(turn.edit and turn.edit.refused or {}) do
    table.insert(remarks, refused.path .. ' stays as it is: ' .. refused.reason)
  end
  return remarks
end

--- Folds the lines that come next.
function M._fold(laid, n_lines)
  for n = 1, n_lines do
    laid.folds[#laid.lines + n] = n == 1 and '>1' or 1
  end
end

return M
