" :QM: which model answers; and which modes there are.

" Those of a server that does not tell.
let s:modes = ['ask', 'explain', 'refactor', 'fix', 'document', 'test']
let s:models = []
let s:has_asked = 0

" :QM [model]
function! lsp_assist#models#command(name) abort
  let l:chat = lsp_assist#chat#current()
  if !empty(a:name)
    call s:choose(l:chat.id, substitute(a:name, '^@', '', ''))
    return
  endif
  let l:id = l:chat.id
  call lsp_assist#server#request('assist/models', {}, {result, error -> s:listed(l:id, result, error)})
endfunction

" Names of the modes. Asks the server for them, so that the next answer is the server's.
function! lsp_assist#models#modes() abort
  call s:learn()
  return s:modes
endfunction

" Names of the models, as far as they are known by now.
function! lsp_assist#models#names() abort
  call s:learn()
  return map(copy(s:models), {_, model -> model.name})
endfunction

function! s:choose(chat_id, name) abort
  let l:chat = lsp_assist#chat#get(a:chat_id)
  let l:chat.model = a:name
  call lsp_assist#window#status(l:chat)
  call lsp_assist#notice#info('this chat goes on with ' .. a:name)
endfunction

function! s:listed(chat_id, result, error) abort
  if lsp_assist#server#lacks('assist/models')
    call lsp_assist#server#request('assist/status', {}, function('s:only'))
  elseif !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
  else
    let s:models = get(a:result, 'models', [])
    let l:names = map(copy(s:models), {_, model -> model.name})
    call lsp_assist#menu#pick('Models', map(copy(s:models), {_, model -> s:line(model)}), {n -> s:choose(a:chat_id, l:names[n])})
  endif
endfunction

function! s:only(result, error) abort
  call lsp_assist#notice#info(empty(a:error) ? 'this server has one model: ' .. a:result.model.name : a:error.message)
endfunction

function! s:line(model) abort
  return join([a:model.name, get(a:model, 'state', '')], '  ')
endfunction

" Once for each start of the server, and only if it runs: completion starts none.
function! s:learn() abort
  if s:has_asked || lsp_assist#server#state() !=# 'ready'
    let s:has_asked = s:has_asked && lsp_assist#server#state() ==# 'ready'
    return
  endif
  let s:has_asked = 1
  call lsp_assist#server#request('assist/modes', {}, function('s:told_modes'))
  call lsp_assist#server#request('assist/models', {}, function('s:told_models'))
endfunction

function! s:told_modes(result, error) abort
  let l:names = map(copy(get(a:result, 'modes', [])), {_, mode -> type(mode) == v:t_dict ? mode.name : mode})
  let s:modes = empty(l:names) ? s:modes : l:names
endfunction

function! s:told_models(result, error) abort
  let s:models = get(a:result, 'models', s:models)
endfunction
