" A page of text to be read and closed by q. Knows nothing of what stands on it.

" Shows the lines in a window below, and enters it: not while the user is in the middle of something.
" Returns the buffer's number.
function! lsp_assist#page#show(name, lines) abort
  let l:bufnr = bufadd('lsp-assist:' .. a:name)
  silent call bufload(l:bufnr)
  for [l:option, l:value] in items({'buftype': 'nofile', 'bufhidden': 'hide', 'swapfile': 0,
        \ 'buflisted': 0, 'modifiable': 1})
    call setbufvar(l:bufnr, '&' .. l:option, l:value)
  endfor
  silent call deletebufline(l:bufnr, 1, '$')
  call setbufline(l:bufnr, 1, a:lines)
  call setbufvar(l:bufnr, '&modifiable', 0)
  if bufwinid(l:bufnr) == -1 && mode() ==# 'n' && empty(getcmdwintype())
    execute 'silent botright' min([len(a:lines) + 1, &lines / 2]) .. 'split'
    execute 'silent keepalt buffer' l:bufnr
    setlocal nonumber norelativenumber nolist nospell nowrap winfixheight
    nnoremap <buffer> <silent> q :<C-u>call lsp_assist#page#close()<CR>
  endif
  return l:bufnr
endfunction

" Closes the page in this window, and goes back to where the user came from.
function! lsp_assist#page#close() abort
  let l:page = win_getid()
  wincmd p
  if win_getid() == l:page || win_id2win(l:page) == 0
    close
  else
    execute win_id2win(l:page) .. 'close'
  endif
endfunction
