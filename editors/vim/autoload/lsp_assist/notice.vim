" What the user is told in the message line. Never while something is being typed there: a callback
" may run at any moment, so its message waits until the command line is free.

let s:waiting = []

function! lsp_assist#notice#info(text) abort
  call s:tell('None', a:text)
endfunction

function! lsp_assist#notice#warning(text) abort
  call s:tell('WarningMsg', a:text)
endfunction

function! lsp_assist#notice#error(text) abort
  call s:tell('ErrorMsg', a:text)
endfunction

function! s:tell(highlight, text) abort
  if s:is_free()
    call s:show(a:highlight, a:text)
    return
  endif
  call add(s:waiting, [a:highlight, a:text])
  augroup lsp_assist_notice
    autocmd!
    autocmd SafeState * call s:flush()
  augroup END
endfunction

function! s:flush() abort
  if !s:is_free()
    return
  endif
  autocmd! lsp_assist_notice
  let l:said = remove(s:waiting, 0, -1)
  for [l:highlight, l:text] in l:said
    call s:show(l:highlight, l:text)
  endfor
endfunction

" Whether nothing is typed in the message line. Ex mode has none.
function! s:is_free() abort
  return mode(1) =~# '^\%([nivV]\|c[ve]\)' || mode() ==# "\<C-v>"
endfunction

" More than fits the line would stop the user with "Press ENTER".
function! s:show(highlight, text) abort
  let l:text = 'lsp-assist: ' .. substitute(a:text, '[[:cntrl:]]\+', ' ', 'g')
  let l:room = max([20, &columns - 13]) + max([0, &cmdheight - 1]) * &columns
  if strdisplaywidth(l:text) > l:room
    call lsp_assist#doctor#log(a:text)
    let l:text = strcharpart(l:text, 0, l:room - 1) .. '…'
  endif
  execute 'echohl' a:highlight
  echomsg l:text
  echohl None
endfunction
