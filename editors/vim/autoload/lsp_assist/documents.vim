" The text of open buffers, told to the server as it changes. Knows no question.
"
" What was told last is kept, and what differs is found by comparing: the line numbers that
" listener_add() reports may be out of date when its callback runs (:help listener_add). The listener
" only says when to look.

let s:told = {}     " buffer number -> {uri, version, lines, ends, tick, listener}
let s:timer = -1

let s:PAUSE_MS = 300
let s:MAX_BYTES = 5000000

" Opens what is loaded, and from now on what will be.
function! lsp_assist#documents#open_all() abort
  augroup lsp_assist_documents
    autocmd!
    autocmd BufReadPost,BufNewFile,BufFilePost,BufWinEnter,FileType * call s:reopen(str2nr(expand('<abuf>')))
    autocmd BufWritePost * call s:saved(str2nr(expand('<abuf>')))
    autocmd BufUnload,BufFilePre * call s:close(str2nr(expand('<abuf>')))
  augroup END
  for l:buffer in getbufinfo({'bufloaded': 1})
    call lsp_assist#documents#open(l:buffer.bufnr)
  endfor
endfunction

" Opens a buffer if it holds a file's text, or one to be. Returns whether the server knows it.
function! lsp_assist#documents#open(bufnr) abort
  if has_key(s:told, a:bufnr)
    return 1
  elseif lsp_assist#server#state() !=# 'ready' || !s:is_text(a:bufnr)
    return 0
  endif
  let l:document = {
        \ 'uri': lsp_assist#place#uri(a:bufnr),
        \ 'version': 1,
        \ 'lines': s:lines(a:bufnr),
        \ 'ends': s:ends(a:bufnr),
        \ 'tick': getbufvar(a:bufnr, 'changedtick'),
        \ 'listener': listener_add({bufnr, start, end, added, changes -> s:note()}, a:bufnr),
        \ }
  let s:told[a:bufnr] = l:document
  call lsp_assist#server#notify('textDocument/didOpen', {'textDocument': {
        \ 'uri': l:document.uri,
        \ 'languageId': split(getbufvar(a:bufnr, '&filetype') .. '.text', '\.')[0],
        \ 'version': 1,
        \ 'text': s:text(a:bufnr, l:document.lines),
        \ }})
  return 1
endfunction

" Tells what has changed since it was told last.
function! lsp_assist#documents#flush() abort
  call timer_stop(s:timer)
  let s:timer = -1
  for [l:key, l:document] in items(s:told)
    let l:bufnr = str2nr(l:key)
    if bufloaded(l:bufnr)
      call s:tell(l:bufnr, l:document)
    endif
  endfor
endfunction

" The version of a buffer's text at the server, 0 if it is not there.
function! lsp_assist#documents#version(bufnr) abort
  return get(get(s:told, a:bufnr, {}), 'version', 0)
endfunction

" The buffer that the server knows by this name, -1 if there is none.
function! lsp_assist#documents#bufnr(uri) abort
  for [l:bufnr, l:document] in items(s:told)
    if l:document.uri ==# a:uri
      return str2nr(l:bufnr)
    endif
  endfor
  return -1
endfunction

" The server is gone, and with it all that it was told.
function! lsp_assist#documents#forget() abort
  call timer_stop(s:timer)
  for l:document in values(s:told)
    call listener_remove(l:document.listener)
  endfor
  let s:told = {}
  augroup lsp_assist_documents
    autocmd!
  augroup END
endfunction

function! s:is_text(bufnr) abort
  let l:name = bufname(a:bufnr)
  return bufloaded(a:bufnr) && empty(getbufvar(a:bufnr, '&buftype')) && !getbufvar(a:bufnr, '&binary')
        \ && (!empty(l:name) || getbufline(a:bufnr, 1, 2) !=# [''])
        \ && l:name !~# '^\a[[:alnum:].+-]\+://' && getfsize(l:name) <= s:MAX_BYTES
endfunction

function! s:reopen(bufnr) abort
  if has_key(s:told, a:bufnr)
    call s:note()  " read anew, as by :edit
  else
    call lsp_assist#documents#open(a:bufnr)
  endif
endfunction

function! s:saved(bufnr) abort
  if lsp_assist#documents#open(a:bufnr)
    call lsp_assist#documents#flush()
    call lsp_assist#server#notify('textDocument/didSave', {'textDocument': {'uri': s:told[a:bufnr].uri}})
  endif
endfunction

function! s:close(bufnr) abort
  if has_key(s:told, a:bufnr)
    let l:document = remove(s:told, a:bufnr)
    call listener_remove(l:document.listener)
    call lsp_assist#server#notify('textDocument/didClose', {'textDocument': {'uri': l:document.uri}})
  endif
endfunction

" A pause after the first change, so that typing costs nothing but this.
function! s:note() abort
  if s:timer == -1
    let s:timer = timer_start(s:PAUSE_MS, {-> lsp_assist#documents#flush()})
  endif
endfunction

function! s:tell(bufnr, document) abort
  let l:tick = getbufvar(a:bufnr, 'changedtick')
  let l:ends = s:ends(a:bufnr)
  if l:tick == a:document.tick && l:ends ==# a:document.ends
    return
  endif
  let a:document.tick = l:tick
  let l:old = a:document.lines
  let l:new = s:lines(a:bufnr)
  if l:new ==# l:old && l:ends ==# a:document.ends
    return
  endif
  let l:is_by_line = l:ends ==# a:document.ends && l:ends.is_last_ended
  let a:document.lines = l:new
  let a:document.ends = l:ends
  let a:document.version += 1
  if l:is_by_line
    let l:n_shared = min([len(l:old), len(l:new)])
    let l:n_head = s:n_equal(l:n_shared, {n -> l:old[: n - 1] ==# l:new[: n - 1]})
    let l:n_tail = s:n_equal(l:n_shared - l:n_head, {n -> l:old[-n :] ==# l:new[-n :]})
    let l:lines = l:n_tail < len(l:new) - l:n_head ? l:new[l:n_head : len(l:new) - l:n_tail - 1] : []
    let l:change = {
          \ 'range': {
          \   'start': {'line': l:n_head, 'character': 0},
          \   'end': {'line': len(l:old) - l:n_tail, 'character': 0}},
          \ 'text': s:text(a:bufnr, l:lines),
          \ }
  else
    let l:change = {'text': s:text(a:bufnr, l:new)}
  endif
  call lsp_assist#server#notify('textDocument/didChange', {
        \ 'textDocument': {'uri': a:document.uri, 'version': a:document.version},
        \ 'contentChanges': [l:change],
        \ })
endfunction

" The largest n up to the limit for which IsEqual(n) holds; it holds for all below.
function! s:n_equal(limit, IsEqual) abort
  let [l:low, l:high] = [0, a:limit]
  " What changed is mostly little: look at the ends first.
  if l:high == 0 || a:IsEqual(l:high)
    return l:high
  endif
  while l:low < l:high
    let l:middle = (l:low + l:high + 1) / 2
    if a:IsEqual(l:middle)
      let l:low = l:middle
    else
      let l:high = l:middle - 1
    endif
  endwhile
  return l:low
endfunction

" A carriage return inside of a line ends a line in LSP, and a NUL (which Vim has as a line break
" inside of a string) is one in no editor: each becomes a blank, so that all positions hold. One
" before the end of a line is part of that, if the end is a line feed.
function! s:lines(bufnr) abort
  let l:lines = getbufline(a:bufnr, 1, '$')
  let l:stray = getbufvar(a:bufnr, '&fileformat') ==# 'unix' ? "\r\\ze.\\|\n" : "[\r\n]"
  return match(l:lines, l:stray) < 0 ? l:lines
        \ : map(l:lines, {_, line -> substitute(line, l:stray, ' ', 'g')})
endfunction

function! s:text(bufnr, lines) abort
  let l:ends = s:ends(a:bufnr)
  return empty(a:lines) ? '' : join(a:lines, l:ends.break) .. (l:ends.is_last_ended ? l:ends.break : '')
endfunction

" How lines end, and whether the last one does, as Vim would write them.
function! s:ends(bufnr) abort
  return {
        \ 'break': get({'dos': "\r\n", 'mac': "\r"}, getbufvar(a:bufnr, '&fileformat'), "\n"),
        \ 'is_last_ended': getbufvar(a:bufnr, '&endofline') || getbufvar(a:bufnr, '&fixendofline'),
        \ }
endfunction
