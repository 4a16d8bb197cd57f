--- lsp-assist for Neovim 0.7 and later. See |lsp-assist-nvim|.
---
--- setup{} is optional: the commands are there without it, and start the server when they are first used.

local config = require('lsp_assist.config')

local M = {}

--- Takes settings; those that are left out keep their defaults. Starts the server with the first file
--- unless `autostart` is false.
---@param options lsp_assist.Options|nil
function M.setup(options)
  options = options or {}
  config.options = vim.tbl_extend('force', vim.deepcopy(config.defaults), options)
  local unknown = config.unknown(options)
  if #unknown > 0 then
    require('lsp_assist.notice').warning('setup{} knows no ' .. table.concat(unknown, ', ') .. '; see :help lsp-assist-nvim-setup')
  end
  require('lsp_assist.server').enable()
end

--- Opens the prompt.
---@param is_visual boolean|nil about what was selected last
function M.prompt(is_visual)
  local ask = require('lsp_assist.ask')
  local server = require('lsp_assist.server')
  server.start()
  local context
  if is_visual then
    context = require('lsp_assist.question').context({ flags = { s = true } }, nil, server.facts())
  end
  require('lsp_assist.prompt').open({ chat = ask.current(), context = context })
end

--- Opens the prompt for the first question of a fork at the turn of the cursor.
function M.prompt_fork()
  local from = require('lsp_assist.ask').fork_point()
  if from then
    require('lsp_assist.prompt').open({ chat = from.chat, from = from })
  end
end

--- Opens the place that is named at the cursor: a source, or `path:line` in a reply.
function M.go_to_source()
  local place = require('lsp_assist.place')
  local source = require('lsp_assist.window').source_here()
  if source then
    place.open(vim.uri_to_fname(source.uri), source.startLine + 1)
    return
  end
  local path, line = vim.fn.expand('<cWORD>'):match('([%w_./~-]+):?(%d*)')
  local folders = vim.list_extend({}, require('lsp_assist.server').facts().folders)
  table.insert(folders, vim.fn.getcwd())
  for _, folder in ipairs(path and folders or {}) do
    local full = path:match('^[/~]') and vim.fn.expand(path) or folder .. '/' .. path
    if vim.fn.filereadable(full) == 1 then
      place.open(full, tonumber(line) or 0)
      return
    end
  end
  require('lsp_assist.notice').info('there is no source at the cursor')
end

return M
