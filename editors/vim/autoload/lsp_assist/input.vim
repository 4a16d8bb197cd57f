" A question of several lines: a small window to type it in. Warmed while it is typed, as on the command
" line. Knows no chat but the id of the one that it is for.

let s:NAME = 'lsp-assist:question'
let s:N_LINES = 6

" Opens the window for a chat. What was typed and not asked is still there.
function! lsp_assist#input#open(chat_id) abort
  let l:bufnr = bufadd(s:NAME)
  silent call bufload(l:bufnr)
  call setbufvar(l:bufnr, 'lsp_assist_question_of', a:chat_id)
  let l:window = bufwinid(l:bufnr)
  if l:window != -1
    call win_gotoid(l:window)
    return
  endif
  execute 'silent belowright' s:N_LINES .. 'split'
  execute 'silent keepalt buffer' l:bufnr
  setlocal buftype=nofile bufhidden=hide noswapfile nobuflisted winfixheight nonumber norelativenumber wrap linebreak
  setlocal statusline=\ Question:\ <CR>\ in\ normal\ mode\ asks,\ q\ closes
  nnoremap <buffer> <silent> <CR> :<C-u>call lsp_assist#input#ask()<CR>
  nnoremap <buffer> <silent> q :<C-u>call lsp_assist#page#close()<CR>
  augroup lsp_assist_input
    autocmd! * <buffer>
    autocmd TextChanged,TextChangedI <buffer> call lsp_assist#warm#typed_here(b:lsp_assist_question_of, s:text())
  augroup END
  call cursor(line('$'), 1)
  startinsert!
endfunction

" Asks what is typed, and closes the window.
function! lsp_assist#input#ask() abort
  let [l:text, l:chat_id] = [s:text(), b:lsp_assist_question_of]
  if l:text !~# '\S'
    call lsp_assist#notice#info('nothing is typed yet')
    return
  endif
  silent keepjumps %delete _
  call lsp_assist#page#close()
  call lsp_assist#ask#in_chat(l:chat_id, l:text)
endfunction

function! s:text() abort
  return join(getline(1, '$'), "\n")
endfunction
