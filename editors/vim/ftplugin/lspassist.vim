" The chat window's maps. Its options are set by autoload/lsp_assist/window.vim.

if exists('b:did_ftplugin') || has('nvim')
  finish
endif
let b:did_ftplugin = 1

nnoremap <buffer> <silent> <CR> :<C-u>call lsp_assist#ask#prompt('Q')<CR>
nnoremap <buffer> <silent> o :<C-u>call lsp_assist#input#open(b:lsp_assist_chat)<CR>
nnoremap <buffer> <silent> gx :<C-u>call lsp_assist#ask#prompt('QF')<CR>
nnoremap <buffer> <silent> q :<C-u>call lsp_assist#window#close()<CR>
nnoremap <buffer> <silent> gf :<C-u>call lsp_assist#window#go_to_source()<CR>
nnoremap <buffer> <silent> ga :<C-u>call lsp_assist#edits#propose()<CR>
nnoremap <buffer> <silent> ]] :<C-u>call lsp_assist#window#go_to_turn(v:count1)<CR>
nnoremap <buffer> <silent> [[ :<C-u>call lsp_assist#window#go_to_turn(-v:count1)<CR>
xnoremap <buffer> <silent> ]] :<C-u>call lsp_assist#window#go_to_turn(v:count1, 1)<CR>
xnoremap <buffer> <silent> [[ :<C-u>call lsp_assist#window#go_to_turn(-v:count1, 1)<CR>

let b:undo_ftplugin = 'execute "nunmap <buffer> <CR>"'
for s:map in ['o', 'gx', 'q', 'gf', 'ga', ']]', '[[']
  let b:undo_ftplugin ..= ' | execute "nunmap <buffer> ' .. s:map .. '"'
endfor
let b:undo_ftplugin ..= ' | execute "xunmap <buffer> ]]" | execute "xunmap <buffer> [["'
unlet s:map
