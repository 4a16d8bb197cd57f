" :QS: places of the workspace that answer some words, in the quickfix list.

" With a bang in the location list of this window.
function! lsp_assist#search#command(is_local, query) abort
  let l:window = a:is_local ? win_getid() : 0
  call lsp_assist#server#reach(expand('%:p'))
  call lsp_assist#server#request('assist/search', {'query': a:query, 'limit': 50},
        \ {result, error -> s:found(l:window, a:query, result, error)})
endfunction

function! s:found(window, query, result, error) abort
  if !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
    return
  elseif empty(a:result.hits)
    call lsp_assist#server#request('assist/status', {}, function('s:nothing'))
    return
  endif
  let l:list = {
        \ 'title': ':' .. get(g:, 'lsp_assist_prefix', 'Q') .. 'S ' .. a:query,
        \ 'items': map(copy(a:result.hits), {_, hit -> s:item(hit)}),
        \ }
  if a:window
    call setloclist(a:window, [], ' ', l:list)
  else
    call setqflist([], ' ', l:list)
  endif
  call lsp_assist#notice#info(printf('%d places', len(a:result.hits)))
  " The list is opened, and the cursor stays: not while the user is in the middle of something.
  if mode() ==# 'n' && empty(getcmdwintype()) && (!a:window || a:window == win_getid())
    let l:here = win_getid()
    execute a:window ? 'lopen' : 'botright copen'
    call win_gotoid(l:here)
  endif
endfunction

function! s:nothing(status, _error) abort
  let l:unfinished = filter(copy(get(a:status, 'indexes', [])), {_, index -> index.state !=# 'ready'})
  call lsp_assist#notice#info(empty(l:unfinished) ? 'nothing was found'
        \ : 'nothing was found yet: the workspace is being indexed')
endfunction

function! s:item(hit) abort
  return {
        \ 'filename': lsp_assist#place#path_of(a:hit.uri),
        \ 'lnum': a:hit.startLine + 1,
        \ 'end_lnum': a:hit.endLine + 1,
        \ 'text': trim(a:hit.kind .. ' ' .. a:hit.symbol),
        \ }
endfunction
