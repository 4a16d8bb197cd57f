" The server as one of vim-lsp's, for those who use it: vim-lsp starts it, tells it of documents and
" answers what it asks. The same functions as lsp_assist#transport#channel.
"
" Source: https://github.com/prabirshrestha/vim-lsp, of 2026-04-18. What has to be known of it:
" - It counts characters in code points and does not say so; we say it for our server.
" - It never answers a request that it does not know. Our server makes none of those that it lacks.
" - It starts no server from a buffer whose name is a URL, as ours are: each request names another.

let s:NAME = 'lsp-assist'
let s:handlers = {}
let s:is_registered = 0

function! lsp_assist#transport#vimlsp#open(command, params, handlers) abort
  let s:handlers = a:handlers
  if !s:is_registered
    let s:is_registered = 1
    augroup lsp_assist_vimlsp
      autocmd!
      autocmd User lsp_server_exit call s:exited()
    augroup END
    call lsp#register_notifications(s:NAME, function('s:notified'))
    let l:server = {
          \ 'name': s:NAME,
          \ 'cmd': {_ -> a:command},
          \ 'root_uri': {_ -> a:params.rootUri is v:null ? '' : a:params.rootUri},
          \ 'allowlist': ['*'],
          \ 'blocklist': ['lspassist'],
          \ 'capabilities': extend(lsp#default_get_supported_capabilities({}), {
          \   'general': {'positionEncodings': ['utf-32', 'utf-16']},
          \   'experimental': {'lspAssist': {'version': 1}},
          \ })}
    if has_key(a:params, 'initializationOptions')
      let l:server.initialization_options = a:params.initializationOptions
    endif
    call lsp#register_server(l:server)
  endif
  " vim-lsp keeps requests until the server is initialized.
  call timer_start(0, {-> a:handlers.ready({})})
  return {
        \ 'request': function('lsp_assist#transport#vimlsp#request'),
        \ 'notify': {-> 0},
        \ 'close': {-> lsp#stop_server(s:NAME)},
        \ }
endfunction

function! lsp_assist#transport#vimlsp#request(method, params, Done) dict abort
  let l:Done = a:Done
  let l:bufnr = s:file_buffer()
  if l:bufnr == -1
    call l:Done({}, {'message': 'open a file first: vim-lsp starts servers for files only'})
    return
  endif
  call lsp#send_request(s:NAME, {
        \ 'method': a:method,
        \ 'params': a:params,
        \ 'bufnr': l:bufnr,
        \ 'on_notification': {data -> s:answered(l:Done, data)},
        \ })
endfunction

" What vim-lsp cannot start is told as an error without a code.
function! s:answered(Done, data) abort
  let l:response = get(a:data, 'response', {})
  call a:Done(get(l:response, 'result', {}), get(l:response, 'error', {}))
endfunction

function! s:notified(server, data) abort
  let l:message = get(a:data, 'response', {})
  if a:server ==# s:NAME && get(l:message, 'method', '') ==# 'assist/event'
    call s:handlers.message(l:message.method, l:message.params)
  endif
endfunction

" vim-lsp does not say which server it was.
function! s:exited() abort
  if lsp#get_server_status(s:NAME) ==# 'exited'
    call s:handlers.ended(1)
  endif
endfunction

function! s:file_buffer() abort
  let l:buffers = [bufnr('%')] + map(getbufinfo({'bufloaded': 1}), {_, buffer -> buffer.bufnr})
  return get(filter(l:buffers, {_, n -> empty(getbufvar(n, '&buftype')) && bufname(n) !~# '^\a\+://'}), 0, -1)
endfunction
