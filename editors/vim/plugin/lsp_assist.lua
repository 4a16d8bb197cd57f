-- lsp-assist for Neovim: commands and <Plug> maps only; all else is loaded when it is first used.
-- Vim has plugin/lsp_assist.vim instead.

if vim.fn.has('nvim-0.7') == 0 or vim.g.loaded_lsp_assist_nvim then
  return
end
vim.g.loaded_lsp_assist_nvim = true

require('lsp_assist.commands').create()
