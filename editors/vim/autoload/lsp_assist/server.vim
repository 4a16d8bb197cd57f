" The server's life: found, started at the first use, started again when it dies, ended with Vim.
" Knows transports and what is said at the start; not what is asked, and no buffer's text.

let s:state = 'off'      " off, starting, ready
let s:link = {}
let s:waiting = []       " requests made before the server is ready
let s:pending = {}       " those under way: number -> Done
let s:n_requests = 0
let s:n_deaths = 0       " in a row
let s:started_at = []
let s:restart = -1       " timer
let s:unsupported = {}
let s:folders = []

let s:FIRST_DELAY_MS = 500
let s:LONGEST_DELAY_MS = 30000
let s:MAX_DEATHS = 5
let s:STEADY_S = 60

" `Done(result, error)` is called when it is answered; `error` is {} or has a `message`. Starts the
" server if need be. The text of all buffers is at the server before the request is.
function! lsp_assist#server#request(method, params, Done) abort
  if s:state !=# 'ready'
    call add(s:waiting, [a:method, a:params, a:Done])
    call s:start()
    return
  endif
  call lsp_assist#documents#flush()
  let s:n_requests += 1
  let l:n = s:n_requests
  let s:pending[l:n] = [a:method, a:Done]
  call s:link.request(a:method, a:params, {result, error -> s:answered(l:n, result, error)})
endfunction

" Lost unless the server is ready: what it must know of the past it is told when it starts.
function! lsp_assist#server#notify(method, params) abort
  if s:state ==# 'ready'
    call s:link.notify(a:method, a:params)
  endif
endfunction

function! lsp_assist#server#state() abort
  return s:state
endfunction

" 'channel' or 'vimlsp'; empty if there is no way to reach a server from this Vim.
function! lsp_assist#server#transport() abort
  let l:wanted = get(g:, 'lsp_assist_transport', 'auto')
  let l:has_channel = has('channel') && has('job') && has('patch-8.2.4780')
  if l:wanted ==# 'auto'
    return get(g:, 'lsp_loaded', 0) ? 'vimlsp' : l:has_channel ? 'channel' : ''
  endif
  return l:wanted ==# 'vimlsp' || l:has_channel ? l:wanted : ''
endfunction

" Positions are counted in bytes where buffers are UTF-8, else in code points.
function! lsp_assist#server#encoding() abort
  return lsp_assist#server#transport() ==# 'channel' && &encoding ==# 'utf-8' ? 'utf-8' : 'utf-32'
endfunction

" The server's command as a list; empty if it is not found.
function! lsp_assist#server#command() abort
  if exists('g:lsp_assist_cmd')
    let l:command = type(g:lsp_assist_cmd) == v:t_list ? copy(g:lsp_assist_cmd)
          \ : [expand(g:lsp_assist_cmd), 'serve']
    return executable(get(l:command, 0, '')) ? l:command : []
  endif
  " pipx puts it where a Vim started from a desktop may not look.
  for l:program in ['lsp-assist', expand('~/.local/bin/lsp-assist')]
    if executable(l:program)
      return [exepath(l:program), 'serve']
    endif
  endfor
  return []
endfunction

" Whether the server answered that it does not know a method.
function! lsp_assist#server#lacks(method) abort
  return has_key(s:unsupported, a:method)
endfunction

" The methods of which it answered that.
function! lsp_assist#server#lacking() abort
  return sort(keys(s:unsupported))
endfunction

" The folders of the workspace.
function! lsp_assist#server#folders() abort
  return copy(s:folders)
endfunction

" Makes the folder of a file part of the workspace.
function! lsp_assist#server#reach(path) abort
  if s:state !=# 'ready'
    return
  endif
  let l:root = lsp_assist#place#root(a:path)
  if !empty(l:root) && index(s:folders, l:root) < 0
    call add(s:folders, l:root)
    call lsp_assist#server#notify('workspace/didChangeWorkspaceFolders',
          \ {'event': {'added': [s:folder(l:root)], 'removed': []}})
  endif
endfunction

function! lsp_assist#server#stop() abort
  call timer_stop(s:restart)
  let l:link = s:link
  let s:state = 'off'
  let s:link = {}
  call lsp_assist#documents#forget()
  if !empty(l:link)
    call l:link.close()
  endif
  call s:refuse('the server was stopped')
endfunction

function! s:start() abort
  if s:state !=# 'off'
    return
  endif
  call timer_stop(s:restart)
  let l:transport = lsp_assist#server#transport()
  let l:command = lsp_assist#server#command()
  if empty(l:transport)
    call s:refuse('this Vim cannot reach the server: it needs 9.0 (or 8.2 with patch 4780) with +channel, or vim-lsp')
    return
  elseif empty(l:command)
    call s:refuse('the server is not installed: run `pipx install .` in a clone of lsp-assist, or set g:lsp_assist_cmd to its path')
    return
  endif
  let s:state = 'starting'
  let s:started_at = reltime()
  let l:root = lsp_assist#place#root(expand('%:p'))
  let s:folders = empty(l:root) ? [] : [l:root]
  augroup lsp_assist_server
    autocmd!
    autocmd VimLeavePre * call lsp_assist#server#stop()
  augroup END
  let l:handlers = {
        \ 'ready': function('s:ready'),
        \ 'message': function('s:message'),
        \ 'request': function('s:requested'),
        \ 'log': function('lsp_assist#doctor#log'),
        \ 'ended': function('s:ended'),
        \ }
  let s:link = lsp_assist#transport#{l:transport}#open(l:command, s:params(), l:handlers)
endfunction

function! s:params() abort
  let l:params = {
        \ 'processId': getpid(),
        \ 'clientInfo': {'name': 'Vim', 'version': string(v:version)},
        \ 'rootUri': empty(s:folders) ? v:null : lsp_assist#place#uri_of(s:folders[0]),
        \ 'workspaceFolders': map(copy(s:folders), {_, root -> s:folder(root)}),
        \ 'capabilities': {
        \   'general': {'positionEncodings': [lsp_assist#server#encoding(), 'utf-16']},
        \   'textDocument': {'synchronization': {'didSave': v:true}},
        \   'window': {'showDocument': {'support': v:true}},
        \   'workspace': {
        \     'workspaceFolders': v:true,
        \     'applyEdit': v:true,
        \     'workspaceEdit': {'documentChanges': v:true},
        \   },
        \   'experimental': {'lspAssist': {'version': 1}},
        \ }}
  if exists('g:lsp_assist_settings')
    let l:params.initializationOptions = g:lsp_assist_settings
  endif
  return l:params
endfunction

function! s:folder(root) abort
  return {'uri': lsp_assist#place#uri_of(a:root), 'name': fnamemodify(a:root, ':t')}
endfunction

function! s:ready(_result) abort
  let s:state = 'ready'
  let s:unsupported = {}
  if lsp_assist#server#transport() ==# 'channel'
    call lsp_assist#documents#open_all()
  endif
  for [l:method, l:params, l:Done] in remove(s:waiting, 0, -1)
    call lsp_assist#server#request(l:method, l:params, l:Done)
  endfor
  call lsp_assist#chat#ready()
endfunction

function! s:message(method, params) abort
  if a:method ==# 'assist/event'
    call lsp_assist#chat#event(a:params)
  elseif a:method ==# 'window/showMessage'
    let l:level = get(a:params, 'type', 3)
    call lsp_assist#notice#{l:level == 1 ? 'error' : l:level == 2 ? 'warning' : 'info'}(a:params.message)
  endif
endfunction

function! s:requested(method, params) abort
  if a:method ==# 'window/showDocument'
    return {'success': lsp_assist#place#show(a:params) ? v:true : v:false}
  elseif a:method ==# 'workspace/applyEdit'
    return lsp_assist#workspace_edit#apply(a:params)
  endif
  throw 'There is no method ' .. a:method .. ' in this editor.'
endfunction

function! s:answered(n, result, error) abort
  if !has_key(s:pending, a:n)
    return
  endif
  let [l:method, l:Done] = remove(s:pending, a:n)
  let l:error = a:error
  if get(l:error, 'code') == -32601
    let s:unsupported[l:method] = 1
    let l:error.message = 'this server has no ' .. l:method .. ' yet; a newer lsp-assist may have'
  endif
  call l:Done(a:result, l:error)
endfunction

function! s:ended(code) abort
  let l:was_ready = s:state ==# 'ready'
  let s:state = 'off'
  let s:link = {}
  let s:n_deaths = reltimefloat(reltime(s:started_at)) > s:STEADY_S ? 1 : s:n_deaths + 1
  call lsp_assist#documents#forget()
  let l:doctor = ':' .. get(g:, 'lsp_assist_prefix', 'Q') .. 'Doctor'
  call s:refuse(l:was_ready ? printf('the server ended (exit code %d); it is started again', a:code)
        \ : printf('the server did not start (exit code %d); %s has its log', a:code, l:doctor))
  if !l:was_ready || s:n_deaths > s:MAX_DEATHS
    return
  endif
  let l:delay = min([s:LONGEST_DELAY_MS, s:FIRST_DELAY_MS * float2nr(pow(2, s:n_deaths - 1))])
  let s:restart = timer_start(l:delay, {-> s:start()})
endfunction

" Everything that waits for an answer gets this one.
function! s:refuse(reason) abort
  let l:unanswered = values(map(s:pending, {_, request -> request[1]}))
        \ + map(s:waiting, {_, request -> request[2]})
  let s:pending = {}
  let s:waiting = []
  call lsp_assist#chat#lost(a:reason)
  for l:Done in l:unanswered
    call l:Done({}, {'message': a:reason})
  endfor
endfunction
