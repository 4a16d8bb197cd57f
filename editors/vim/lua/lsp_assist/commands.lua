--- The commands and <Plug> maps. Everything behind them is loaded when it is first used.

local config = require('lsp_assist.config')

local M = {}

local function ask()
  return require('lsp_assist.ask')
end

local function asked(opts)
  return require('lsp_assist.place').asked(opts)
end

local function complete(what)
  return function(...)
    return require('lsp_assist.completion')[what](...)
  end
end

local function here()
  local chat = ask().current()
  return chat, require('lsp_assist.window').turn_here(chat)
end

--- By what follows the prefix.
local COMMANDS = {
  [''] = {
    function(opts)
      ask().command(opts.args, asked(opts), opts.bang)
    end,
    { bang = true, range = true, nargs = '*', complete = complete('question'), desc = 'Ask' },
  },
  F = {
    function(opts)
      ask().fork(opts.args, asked(opts), opts.bang)
    end,
    { bang = true, range = true, nargs = '*', complete = complete('question'), desc = 'Fork the chat, and ask' },
  },
  W = {
    function(opts)
      ask().warm(opts.args, asked(opts))
    end,
    { range = true, nargs = '*', complete = complete('question'), desc = 'Warm what a question would show' },
  },
  I = {
    function(opts)
      ask().preview(opts.args, asked(opts))
    end,
    { range = true, nargs = '*', complete = complete('question'), desc = 'What a question would show' },
  },
  R = {
    function(opts)
      ask().repair(opts.args, asked(opts))
    end,
    { range = true, nargs = '*', desc = 'Mend the selected code until its tests pass' },
  },
  A = {
    function(opts)
      require('lsp_assist.actions').menu(asked(opts))
    end,
    { range = true, nargs = 0, desc = 'What there is to do with the selected code' },
  },
  C = {
    function(opts)
      require('lsp_assist.chats').command(opts.args)
    end,
    { nargs = '?', complete = complete('chats'), desc = 'Chats of this workspace' },
  },
  M = {
    function(opts)
      require('lsp_assist.models').command(ask().current(), opts.args)
    end,
    { nargs = '?', complete = complete('models'), desc = 'The model of this chat' },
  },
  X = {
    function()
      ask().cancel()
    end,
    { nargs = 0, desc = 'Stop the reply' },
  },
  S = {
    function(opts)
      require('lsp_assist.search').command(opts.args, opts.bang)
    end,
    { bang = true, nargs = '+', desc = 'Search the workspace' },
  },
  Doctor = {
    function()
      vim.cmd('checkhealth lsp_assist')
    end,
    { nargs = 0, desc = 'What is there, and what is wrong with it' },
  },
}

--- Opens the prompt, about the selection where there is one.
local function prompt(is_visual)
  return function()
    if is_visual then
      -- The marks of the selection are set when it ends.
      vim.cmd('normal! ' .. vim.api.nvim_replace_termcodes('<Esc>', true, false, true))
    end
    require('lsp_assist').prompt(is_visual)
  end
end

--- By what stands in <Plug>(lsp-assist-...): modes, what is done.
local MAPS = {
  { 'n', 'ask', prompt(false) },
  { 'x', 'ask', prompt(true) },
  { 'n', 'warm-ask', prompt(false) },
  { 'x', 'warm-ask', prompt(true) },
  { 'n', 'chat', function()
    require('lsp_assist.window').show(ask().current(), true)
  end },
  { 'n', 'fork', function()
    require('lsp_assist').prompt_fork()
  end },
  { 'n', 'chats', function()
    require('lsp_assist.chats').command('')
  end },
  { 'n', 'models', function()
    require('lsp_assist.models').command(ask().current(), '')
  end },
  { 'n', 'cancel', function()
    ask().cancel()
  end },
  { 'n', 'in-chat-ask', prompt(false) },
  { 'n', 'in-chat-fork', function()
    require('lsp_assist').prompt_fork()
  end },
  { 'n', 'in-chat-close', function()
    require('lsp_assist.window').close()
  end },
  { 'n', 'in-chat-source', function()
    require('lsp_assist').go_to_source()
  end },
  { 'n', 'in-chat-edits', function()
    require('lsp_assist.edits').propose(here())
  end },
  { { 'n', 'x' }, 'in-chat-forward', function()
    require('lsp_assist.window').go_to_turn(vim.v.count1)
  end },
  { { 'n', 'x' }, 'in-chat-back', function()
    require('lsp_assist.window').go_to_turn(-vim.v.count1)
  end },
}

--- Makes them, and listens to the command line.
function M.create()
  local q = config.prefix()
  for name, command in pairs(COMMANDS) do
    vim.api.nvim_create_user_command(q .. name, command[1], command[2])
  end
  for _, map in ipairs(MAPS) do
    vim.keymap.set(map[1], '<Plug>(lsp-assist-' .. map[2] .. ')', map[3], { silent = true })
  end
  vim.keymap.set('n', '<Plug>(lsp-assist-search)', ':<C-u>' .. q .. 'S<Space>')
  vim.keymap.set('x', '<Plug>(lsp-assist-warm)', ":<C-u>'<,'>" .. q .. 'W<CR>', { silent = true })
  vim.keymap.set('x', '<Plug>(lsp-assist-actions)', ':' .. q .. 'A<CR>', { silent = true })
  vim.keymap.set('n', '<Plug>(lsp-assist-actions)', ':.' .. q .. 'A<CR>', { silent = true })
  M._listen(q)
end

--- A question is warmed while it is typed. Any other command line costs one look at it.
function M._listen(q)
  local group = vim.api.nvim_create_augroup('lsp_assist', {})
  vim.api.nvim_create_autocmd('CmdlineChanged', {
    group = group,
    pattern = ':',
    callback = function()
      local line = vim.fn.getcmdline()
      if line:find(q, 1, true) then
        require('lsp_assist.typed').changed(line)
      end
    end,
  })
  vim.api.nvim_create_autocmd('CmdlineLeave', {
    group = group,
    pattern = ':',
    callback = function()
      if package.loaded['lsp_assist.typed'] then
        require('lsp_assist.typed').left()
      end
    end,
  })
  vim.api.nvim_create_autocmd('BufReadCmd', {
    group = group,
    pattern = 'lspassist://*',
    callback = function(event)
      require('lsp_assist.window').read(event.buf)
    end,
  })
end

return M
