--- What can be set up. Knows no server and no window.

local M = {}

---@class lsp_assist.Options
M.defaults = {
  --- The server's command as a list; found by itself if left out.
  cmd = nil,
  --- Settings of the server, as in its config.toml: `{ model = { path = '~/q.gguf' } }`.
  settings = nil,
  --- Starts the server with the first file. Without it, it is started by the first question.
  autostart = true,
  --- Which model a new chat asks; the server's choice if empty.
  model = '',
  --- The command that splits off the chat window; one that fits the screen if left out.
  split = nil,
  --- Tells model, speed and queue in the chat window's status line. `b:lsp_assist_status` has it too.
  statusline = true,
  --- Reads what is asked while it is typed.
  warm = true,
  --- What a project's folder holds.
  root_markers = { '.git', '.hg', '.svn', '.jj', '.lsp-assist.toml' },
}

---@type lsp_assist.Options
M.options = vim.deepcopy(M.defaults)

--- What setup was told that is no option, in order.
---@param told table
---@return string[]
function M.unknown(told)
  local names = {}
  local known = { cmd = true, settings = true, split = true }
  for name in pairs(told) do
    if M.defaults[name] == nil and not known[name] then
      table.insert(names, tostring(name))
    end
  end
  table.sort(names)
  return names
end

--- The server's command as a list; nil if it is not found.
---@return string[]|nil
function M.command()
  local cmd = M.options.cmd
  if cmd then
    cmd = type(cmd) == 'string' and { vim.fn.expand(cmd), 'serve' } or cmd
    return vim.fn.executable(cmd[1] or '') == 1 and cmd or nil
  end
  -- pipx puts it where a Neovim started from a desktop may not look.
  for _, program in ipairs({ 'lsp-assist', vim.fn.expand('~/.local/bin/lsp-assist') }) do
    if vim.fn.executable(program) == 1 then
      return { vim.fn.exepath(program), 'serve' }
    end
  end
  return nil
end

--- How the commands begin.
---@return string
function M.prefix()
  return vim.g.lsp_assist_prefix or 'Q'
end

return M
