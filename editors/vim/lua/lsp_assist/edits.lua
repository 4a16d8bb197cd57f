--- Edits that a reply proposes: shown as a diff, and made when the user says so.

local notice = require('lsp_assist.notice')
local page = require('lsp_assist.page')
local server = require('lsp_assist.server')

local M = {}

--- Shows what the turn, or the last one, would change, as the files are now. `ga` on that page makes
--- the changes.
---@param chat lsp_assist.Chat
---@param turn lsp_assist.Turn|nil
function M.propose(chat, turn)
  turn = turn or chat.turns[#chat.turns]
  if not turn then
    notice.info('there is no reply here')
    return
  end
  local ids = { chatId = chat.id, turnId = turn.id }
  server.request('assist/edits', ids, function(edit, error)
    if error then
      notice.error(error.message)
    elseif #edit.files == 0 and #edit.refused == 0 then
      notice.info('this reply proposes no edits')
    else
      M._show(ids, edit)
    end
  end)
end

function M._show(ids, edit)
  local lines = {}
  if #edit.files > 0 then
    vim.list_extend(lines, { '# ga makes these changes, q leaves all as it is', '' })
  end
  for _, refused in ipairs(edit.refused) do
    table.insert(lines, '! ' .. refused.path .. ': ' .. refused.reason:gsub('\n', ' '))
  end
  for _, file in ipairs(edit.files) do
    vim.list_extend(lines, vim.split(file.diff:gsub('\n$', ''), '\n', { plain = true }))
    table.insert(lines, '')
  end
  local bufnr = page.show('edits', lines, 'diff')
  vim.keymap.set('n', 'ga', function()
    M._apply(ids, edit, bufnr)
  end, { buffer = bufnr, nowait = true, desc = 'Make these changes' })
end

function M._apply(ids, edit, bufnr)
  if #edit.files == 0 then
    notice.info('there is nothing to apply')
    return
  end
  for _, window in ipairs(vim.fn.win_findbuf(bufnr)) do
    if #vim.api.nvim_list_wins() > 1 then
      vim.api.nvim_win_close(window, true)
    end
  end
  local params = vim.tbl_extend('force', ids, { editId = edit.editId, isReviewed = true })
  server.request('assist/applyEdit', params, function(result, error)
    if error then
      notice.error(error.message)
    elseif result.applied then
      notice.info('the changes are made; :wall writes them, u takes them back')
    else
      notice.warning('the changes were not made')
    end
  end)
end

return M
