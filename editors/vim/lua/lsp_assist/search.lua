--- :QS: places of the workspace that answer some words, in the quickfix list.

local notice = require('lsp_assist.notice')
local server = require('lsp_assist.server')

local M = {}

--- With a bang in the location list of this window.
---@param words string
---@param is_local boolean
function M.command(words, is_local)
  local window = vim.api.nvim_get_current_win()
  server.attach(vim.api.nvim_get_current_buf())
  server.request('assist/search', { query = words, limit = 50 }, function(result, error)
    if error then
      notice.error(error.message)
    elseif #result.hits == 0 then
      M._nothing()
    else
      M._list(words, result.hits, is_local and window or nil)
    end
  end)
end

function M._list(words, hits, window)
  local items = vim.tbl_map(function(hit)
    return {
      filename = vim.uri_to_fname(hit.uri),
      lnum = hit.startLine + 1,
      end_lnum = hit.endLine + 1,
      text = vim.trim(hit.kind .. ' ' .. hit.symbol),
    }
  end, hits)
  local list = { title = ':QS ' .. words, items = items }
  if window then
    vim.fn.setloclist(window, {}, ' ', list)
  else
    vim.fn.setqflist({}, ' ', list)
  end
  notice.info(#hits .. ' places')
  -- The list is opened, and the cursor stays: not while the user is in the middle of something.
  local here = vim.api.nvim_get_current_win()
  local is_free = vim.fn.mode() == 'n' and vim.fn.getcmdwintype() == ''
  if is_free and (not window or window == here) then
    vim.cmd(window and 'lopen' or 'botright copen')
    vim.api.nvim_set_current_win(here)
  end
end

function M._nothing()
  server.request('assist/status', {}, function(status)
    for _, index in ipairs(status and status.indexes or {}) do
      if index.state ~= 'ready' then
        notice.info('nothing was found yet: the workspace is being indexed')
        return
      end
    end
    notice.info('nothing was found')
  end)
end

return M
