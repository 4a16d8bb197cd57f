" The server over Vim's own channel in "lsp" mode: a job, its requests, its messages.
" Knows JSON-RPC and the handshake, no method of ours and no buffer.

" Starts the command and initializes it with the params. The handlers:
"   ready(result), message(method, params), request(method, params) -> result,
"   log(line), ended(exit code). `ended` comes once, whatever happens.
" Returns a connection: its `request`, `notify` and `close` are the functions below.
function! lsp_assist#transport#channel#open(command, params, handlers) abort
  let l:link = {
        \ 'handlers': a:handlers,
        \ 'has_ended': 0,
        \ 'n_faults': 0,
        \ 'request': function('lsp_assist#transport#channel#request'),
        \ 'notify': function('lsp_assist#transport#channel#notify'),
        \ 'close': function('lsp_assist#transport#channel#close'),
        \ }
  let l:link.job = job_start(a:command, {
        \ 'in_mode': 'lsp',
        \ 'out_mode': 'lsp',
        \ 'err_mode': 'nl',
        \ 'noblock': 1,
        \ 'out_cb': function('s:received', [l:link]),
        \ 'err_cb': {_, line -> a:handlers.log(line)},
        \ 'exit_cb': {_, code -> s:ended(l:link, code)},
        \ })
  let l:link.channel = job_getchannel(l:link.job)
  if job_status(l:link.job) ==# 'run'
    call l:link.request('initialize', a:params, {result, error -> s:initialized(l:link, result, error)})
  endif
  return l:link
endfunction

" Done(result, error): one of them is empty. It is not called once the server is gone.
function! lsp_assist#transport#channel#request(method, params, Done) dict abort
  let l:Done = a:Done
  let l:message = {'method': a:method, 'params': a:params}
  try
    call ch_sendexpr(self.channel, l:message,
          \ {'callback': {_, answer -> s:guarded(self, l:Done, [get(answer, 'result', {}), get(answer, 'error', {})])}})
  catch /^Vim\%((\a\+)\)\=:E\%(630\|631\|906\)/  " it has just ended; `ended` tells
  endtry
endfunction

function! lsp_assist#transport#channel#notify(method, params) dict abort
  try
    call ch_sendexpr(self.channel, {'method': a:method, 'params': a:params})
  catch /^Vim\%((\a\+)\)\=:E\%(630\|631\|906\)/
  endtry
endfunction

" Says goodbye and waits for nothing: the server acts on both messages in turn.
function! lsp_assist#transport#channel#close() dict abort
  let self.has_ended = 1
  if job_status(self.job) ==# 'run'
    call self.request('shutdown', v:null, {-> 0})
    call self.notify('exit', v:null)
  endif
endfunction

function! s:initialized(link, result, error) abort
  if !empty(a:error)
    call a:link.handlers.log(get(a:error, 'message', 'initialize failed'))
    call job_stop(a:link.job)
    return
  endif
  call a:link.notify('initialized', {})
  call a:link.handlers.ready(a:result)
endfunction

" Thousands of these may come in a second: what is on their way is short.
function! s:received(link, _channel, message) abort
  if !has_key(a:message, 'id')
    try
      call a:link.handlers.message(a:message.method, a:message.params)
    catch
      call s:failed(a:link)
    endtry
    return
  elseif !has_key(a:message, 'method')
    return
  endif
  let l:params = get(a:message, 'params', {})
  let l:answer = {'jsonrpc': '2.0', 'id': a:message.id}
  try
    let l:answer.result = a:link.handlers.request(a:message.method, l:params)
  catch
    let l:answer.error = {'code': -32601, 'message': v:exception}
  endtry
  " ch_sendexpr() takes no id that is a string.
  let l:body = json_encode(l:answer)
  call ch_sendraw(a:link.channel, 'Content-Length: ' .. len(l:body) .. "\r\n\r\n" .. l:body)
endfunction

function! s:guarded(link, Callback, arguments) abort
  try
    call call(a:Callback, a:arguments)
  catch
    call s:failed(a:link)
  endtry
endfunction

" An error in a callback is told once: Vim would repeat it for every message.
function! s:failed(link) abort
  let a:link.n_faults += 1
  call a:link.handlers.log('in the plugin: ' .. v:exception .. ' at ' .. v:throwpoint)
  if a:link.n_faults == 1
    call lsp_assist#notice#error('an error in the plugin: ' .. v:exception)
  endif
endfunction

function! s:ended(link, code) abort
  if !a:link.has_ended
    let a:link.has_ended = 1
    call a:link.handlers.ended(a:code)
  endif
endfunction
