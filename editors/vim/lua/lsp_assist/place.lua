--- Where things are: folders, selected text, positions in the server's encoding. Changes no buffer.

local config = require('lsp_assist.config')

local M = {}

---@class lsp_assist.Asked what a command was asked about; lines count from one
---@field bufnr integer
---@field first integer
---@field last integer
---@field from? integer byte of the first line where the selection begins
---@field to? integer byte of the last line behind its end

--- What a user command was given: nil without a range.
---@param opts table of |nvim_create_user_command()|
---@return lsp_assist.Asked|nil
function M.asked(opts)
  if opts.range == 0 then
    return nil
  end
  local first, last = vim.fn.line("'<"), vim.fn.line("'>")
  if opts.range == 2 and opts.line1 == first and opts.line2 == last then
    return M.visual()
  end
  return M.lines(opts.line1, opts.line2)
end

--- Whole lines of this buffer.
---@param first integer
---@param last integer
---@return lsp_assist.Asked
function M.lines(first, last)
  return { bufnr = vim.api.nvim_get_current_buf(), first = first, last = last }
end

--- What was selected last in this buffer, by characters or by lines; nil if nothing was.
---@return lsp_assist.Asked|nil
function M.visual()
  local first, last = vim.fn.line("'<"), vim.fn.line("'>")
  if first == 0 then
    return nil
  end
  local asked = M.lines(first, last)
  if vim.fn.visualmode() == 'v' then
    local line = vim.fn.getline(last)
    asked.from = vim.fn.col("'<") - 1
    asked.to = math.min(vim.fn.col("'>") - 1, #line)
    if vim.o.selection ~= 'exclusive' then
      asked.to = asked.to + #vim.fn.matchstr(line:sub(asked.to + 1), '^.')
    end
  end
  return asked
end

--- The range of LSP.
---@param asked lsp_assist.Asked
---@param encoding string
---@return table
function M.range(asked, encoding)
  if not asked.from then
    return {
      start = { line = asked.first - 1, character = 0 },
      ['end'] = { line = asked.last, character = 0 },
    }
  end
  return {
    start = M.position(asked.bufnr, asked.first - 1, asked.from, encoding),
    ['end'] = M.position(asked.bufnr, asked.last - 1, asked.to, encoding),
  }
end

--- A byte of a line as a position of LSP; the line is zero-based.
---@return { line: integer, character: integer }
function M.position(bufnr, line, byte, encoding)
  local before = (vim.api.nvim_buf_get_lines(bufnr, line, line + 1, false)[1] or ''):sub(1, byte)
  return { line = line, character = M.n_units(before, encoding) }
end

--- How long a text is in an encoding. Counts bytes that begin a character; in UTF-16 those of four
--- bytes are two units.
---@param text string
---@param encoding string
---@return integer
function M.n_units(text, encoding)
  if encoding == 'utf-8' then
    return #text
  end
  local n_chars = select(2, text:gsub('[^\128-\191]', ''))
  local n_wide = encoding == 'utf-16' and select(2, text:gsub('[\240-\247]', '')) or 0
  return n_chars + n_wide
end

--- The path as people say it: relative to a folder of the workspace, else to the current directory.
---@param path string
---@param folders string[]
---@return string
function M.shown(path, folders)
  for _, root in ipairs(folders) do
    if vim.startswith(path, root .. '/') then
      return path:sub(#root + 2)
    end
  end
  return vim.fn.fnamemodify(path, ':~:.')
end

--- The folder of the project that a file belongs to. Never the home folder or the whole disk, which
--- nobody wants to be read; then nil.
---@param path string
---@return string|nil
function M.root(path)
  local here = vim.fn.resolve(vim.fn.getcwd())
  local folder = here
  if path ~= '' and not path:match('^%a[%w+.-]+://') then
    folder = vim.fn.fnamemodify(path, ':p:h')
    folder = vim.fn.isdirectory(folder) == 1 and vim.fn.resolve(folder) or here
  end
  local above = folder
  while true do
    for _, marker in ipairs(config.options.root_markers) do
      if vim.loop.fs_stat(above .. '/' .. marker) and M._may_be_root(above) then
        return above
      end
    end
    local parent = vim.fn.fnamemodify(above, ':h')
    if parent == above then
      break
    end
    above = parent
  end
  local is_here = vim.startswith(folder .. '/', here .. '/')
  for _, candidate in ipairs({ is_here and here or folder, folder }) do
    if M._may_be_root(candidate) then
      return candidate
    end
  end
  return nil
end

function M._may_be_root(folder)
  return folder ~= '/'
    and not folder:match('^%a:[\\/]?$')
    and folder ~= vim.fn.resolve(vim.fn.expand('~'))
end

--- Shows a line of a file beside the chat: in the window that was left last, else in a new one.
---@param path string
---@param line integer from one; 0 for wherever the cursor is
function M.open(path, line)
  if vim.bo.buftype == 'nofile' then
    local windows = {} ---@type table<integer, boolean>
    for _, window in ipairs(vim.api.nvim_tabpage_list_wins(0)) do
      local is_float = vim.api.nvim_win_get_config(window).relative ~= ''
      local bufnr = vim.api.nvim_win_get_buf(window)
      if not is_float and vim.bo[bufnr].buftype == '' and not vim.wo[window].previewwindow then
        windows[window] = true
      end
    end
    local last = vim.fn.win_getid(vim.fn.winnr('#'))
    if windows[last] or next(windows) then
      vim.api.nvim_set_current_win(windows[last] and last or next(windows))
    else
      vim.cmd('aboveleft new')
    end
  end
  if vim.fn.resolve(vim.fn.expand('%:p')) ~= vim.fn.resolve(path) then
    local is_kept = vim.o.hidden or not vim.bo.modified or #vim.fn.win_findbuf(vim.fn.bufnr()) > 1
    local how = is_kept and 'edit ' or 'split '
    vim.cmd(how .. vim.fn.fnameescape(vim.fn.fnamemodify(path, ':.')))
  end
  if line > 0 then
    vim.cmd("normal! m'")
    vim.fn.cursor(math.min(line, vim.fn.line('$')), 1)
    vim.cmd('normal! ^zvzz')
  end
end

return M
