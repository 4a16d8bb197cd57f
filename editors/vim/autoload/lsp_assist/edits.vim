" `ga` in a chat: the edits that a reply proposes, looked at as a diff, made when the user says so.

" Shows what the turn at the cursor, or the last one, would change.
function! lsp_assist#edits#propose() abort
  let l:chat = lsp_assist#chat#current()
  let l:here = lsp_assist#window#turn_here(l:chat)
  let l:turn = empty(l:here) ? get(l:chat.turns, -1, {}) : l:here
  if empty(l:turn)
    call lsp_assist#notice#info('there is no reply here')
    return
  endif
  let l:ids = {'chatId': l:chat.id, 'turnId': l:turn.id}
  " Asked for anew: the files may have changed since the reply came.
  call lsp_assist#server#request('assist/edits', l:ids, {result, error -> s:show(l:ids, result, error)})
endfunction

" Makes the edits of the page that is shown.
function! lsp_assist#edits#accept() abort
  let l:params = extend({'isReviewed': v:true}, b:lsp_assist_edit)
  call lsp_assist#page#close()
  call lsp_assist#server#request('assist/applyEdit', l:params, function('s:made'))
endfunction

function! s:show(ids, told, error) abort
  if !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
    return
  endif
  let l:refused = map(copy(a:told.refused), {_, one -> '! ' .. one.path .. ': ' .. one.reason})
  if empty(a:told.files)
    call lsp_assist#notice#info(empty(l:refused) ? 'this reply proposes no edits' : join(l:refused, '; ')[2:])
    return
  endif
  let l:lines = ['# ga makes these changes, q leaves all as it is', ''] + l:refused
  for l:file in a:told.files
    let l:lines += split(l:file.diff, "\n") + ['']
  endfor
  let l:bufnr = lsp_assist#page#show('edits', l:lines)
  call setbufvar(l:bufnr, '&filetype', 'diff')
  call setbufvar(l:bufnr, 'lsp_assist_edit', extend({'editId': a:told.editId}, a:ids))
  if bufnr('%') == l:bufnr
    nnoremap <buffer> <silent> ga :<C-u>call lsp_assist#edits#accept()<CR>
  endif
endfunction

function! s:made(result, error) abort
  if !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
  elseif a:result.applied
    call lsp_assist#notice#info('the changes are made; :wall writes them, u takes them back')
  else
    call lsp_assist#notice#warning('the changes were not made')
  endif
endfunction
