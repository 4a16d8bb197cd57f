--- |:checkhealth| lsp_assist: what is there, and what is wrong with it.

local M = {}

local WAIT_MS = 5000
local METHODS = { 'warm', 'context', 'fork', 'chats', 'models', 'modes', 'edits', 'repair' }

local health = vim.health or require('health')
local start = health.start or health.report_start
local ok = health.ok or health.report_ok
local warn = health.warn or health.report_warn
local fail = health.error or health.report_error
local info = health.info or health.report_info

function M.check()
  local config = require('lsp_assist.config')
  start('Neovim')
  local version = vim.version()
  local shown = ('%d.%d.%d'):format(version.major, version.minor, version.patch)
  if vim.fn.has('nvim-0.7') == 1 then
    ok('version ' .. shown)
  else
    fail('version ' .. shown .. ' is too old', { 'Use 0.7 or later.' })
  end
  local command = config.command()
  if not command then
    fail('the server was not found', {
      'Run `pipx install .` in a clone of lsp-assist.',
      "Or say where it is: require('lsp_assist').setup{ cmd = { '/path/to/lsp-assist', 'serve' } }",
    })
  else
    ok('server: ' .. table.concat(command, ' '))
    M._check_server()
  end
  local log = require('lsp_assist.notice').logged()
  if #log > 0 then
    start('Log')
    for _, line in ipairs(log) do
      info((line:gsub('%c', ' ')))
    end
  end
end

function M._check_server()
  start('Server')
  local server = require('lsp_assist.server')
  local status, error
  server.request('assist/status', {}, function(result, failed)
    status, error = result, failed
  end)
  vim.wait(WAIT_MS, function()
    return status ~= nil or error ~= nil
  end, 20)
  if not status then
    fail(error and error.message or ('no answer in %d s; it may still be starting'):format(WAIT_MS / 1000))
    return
  end
  ok(('lsp-assist %s, protocol %d, Python %s'):format(status.version, status.protocol, status.python))
  ok('model: ' .. status.model.name .. (status.model.path ~= '' and ' (' .. status.model.path .. ')' or ''))
  for _, index in ipairs(status.indexes) do
    local tell = index.state == 'ready' and ok or warn
    tell(('index of %s: %s, %d files, %d symbols'):format(index.root, index.state, index.nFiles, index.nSymbols))
  end
  for _, text in ipairs(status.warnings) do
    warn((text:gsub('\n', ' ')))
  end
  for _, method in ipairs(METHODS) do
    if server.lacks('assist/' .. method) then
      info('this server has no assist/' .. method .. ' yet')
    end
  end
end

return M
