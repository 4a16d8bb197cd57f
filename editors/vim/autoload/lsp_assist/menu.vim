" A choice out of a few lines, in a popup. Knows nothing of what is chosen.

" Picked(index) is called unless the user leaves the menu by <Esc>. A list that was asked for but comes
" while something is being typed does not take the keys away.
function! lsp_assist#menu#pick(title, lines, Picked) abort
  if mode() !=# 'n' || !empty(getcmdwintype())
    call lsp_assist#notice#info('the list of ' .. tolower(a:title) .. ' is ready: ask for it again in normal mode')
    return
  endif
  let l:lines = map(copy(a:lines), {_, line -> strcharpart(line, 0, max([20, &columns - 8]))})
  let l:Picked = a:Picked
  call popup_menu(l:lines, {
        \ 'title': ' ' .. a:title .. ' ',
        \ 'maxheight': max([5, &lines - 6]),
        \ 'callback': {_, n -> n > 0 ? l:Picked(n - 1) : 0},
        \ })
endfunction
