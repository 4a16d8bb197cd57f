--- A page of text to be read and closed by q. Knows nothing of what stands on it.

local M = {}

--- Shows the lines in a window below; the cursor goes there only from normal mode. Returns the buffer.
---@param name string
---@param lines string[]
---@param filetype? string
---@return integer
function M.show(name, lines, filetype)
  local bufnr = vim.fn.bufadd('lsp-assist:' .. name)
  vim.fn.bufload(bufnr)
  local options = { buftype = 'nofile', bufhidden = 'hide', swapfile = false, buflisted = false, modifiable = true }
  for option, value in pairs(options) do
    vim.bo[bufnr][option] = value
  end
  vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, lines)
  vim.bo[bufnr].modifiable = false
  if filetype and vim.bo[bufnr].filetype ~= filetype then
    vim.bo[bufnr].filetype = filetype
  end
  if vim.fn.bufwinid(bufnr) == -1 and vim.fn.mode() == 'n' and vim.fn.getcmdwintype() == '' then
    vim.cmd('botright ' .. math.min(#lines + 1, math.floor(vim.o.lines / 2)) .. 'split')
    vim.api.nvim_win_set_buf(0, bufnr)
    vim.cmd('setlocal nonumber norelativenumber nolist nospell nowrap winfixheight')
    vim.keymap.set('n', 'q', '<Cmd>close<CR>', { buffer = bufnr, nowait = true, desc = 'Close this page' })
  end
  return bufnr
end

return M
