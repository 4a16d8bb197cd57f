" :Q, :QF, :QW, :QX and :QR: from what was typed to a request.

" :Q
function! lsp_assist#ask#command(is_urgent, asked, typed) abort
  let l:question = lsp_assist#question#parse(a:typed)
  if has_key(l:question.flags, 'w')
    call lsp_assist#ask#warm(a:asked, a:typed)
    return
  endif
  let l:is_new = has_key(l:question.flags, 'n')
  if empty(l:question.error) && empty(l:question.text) && empty(a:asked) && !has_key(l:question.flags, 's')
    let l:chat = l:is_new ? lsp_assist#chat#new() : lsp_assist#chat#current()
    call s:choose_model(l:chat, l:question)
    call lsp_assist#window#show(l:chat, 1)
    call lsp_assist#ask#prompt('Q')
    return
  endif
  let l:turn = s:turn(l:question, a:asked)
  if !empty(l:turn)
    let l:chat = l:is_new ? lsp_assist#chat#new() : lsp_assist#chat#current()
    call s:choose_model(l:chat, l:question)
    call lsp_assist#ask#turn(l:chat, l:turn, a:is_urgent)
  endif
endfunction

" What was typed in a window of its own, for a chat.
function! lsp_assist#ask#in_chat(chat_id, typed) abort
  let l:question = lsp_assist#question#parse(a:typed)
  let l:turn = s:turn(l:question, {})
  let l:chat = lsp_assist#chat#get(a:chat_id)
  if !empty(l:turn) && !empty(l:chat)
    call s:choose_model(l:chat, l:question)
    call lsp_assist#ask#turn(l:chat, l:turn, 0)
  endif
endfunction

" :QF: the chat up to the turn at the cursor, or up to its last one, goes on in a chat of its own.
function! lsp_assist#ask#fork(is_urgent, asked, typed) abort
  let l:chat = lsp_assist#chat#current()
  let l:ended = filter(copy(l:chat.turns), {_, turn -> turn.status =~# '^\%(done\|cancelled\)$'})
  let l:here = lsp_assist#window#turn_here(l:chat)
  let l:from = empty(l:here) ? get(l:ended, -1, {}) : l:here
  if index(l:ended, l:from) < 0
    call lsp_assist#notice#error(empty(l:chat.turns) ? 'there is no turn to fork'
          \ : 'a turn can be forked when it has ended')
    return
  endif
  let l:question = lsp_assist#question#parse(a:typed)
  let l:turn = empty(a:typed) ? {} : s:turn(l:question, a:asked)
  if empty(a:typed) || !empty(l:turn)
    let l:params = {'chatId': l:chat.id, 'turnId': l:from.id, 'newChatId': lsp_assist#chat#new_id()}
    call lsp_assist#server#request('assist/fork', l:params,
          \ {_, error -> s:forked(l:params, l:question, l:turn, a:is_urgent, error)})
  endif
endfunction

function! s:forked(params, question, turn, is_urgent, error) abort
  let l:from = lsp_assist#chat#get(a:params.chatId)
  if !empty(a:error) || empty(l:from)
    call lsp_assist#notice#error('not forked: ' .. get(a:error, 'message', 'the chat is gone'))
    return
  endif
  let l:shared = []
  for l:one in l:from.turns
    call add(l:shared, l:one)
    if l:one.id ==# a:params.turnId
      break
    endif
  endfor
  let l:chat = lsp_assist#chat#add(a:params.newChatId, '', deepcopy(l:shared))
  let l:chat.model = l:from.model
  call s:choose_model(l:chat, a:question)
  if empty(a:turn)
    let l:chat.title = 'Fork of ' .. l:from.title
    call lsp_assist#window#show(l:chat, 0)
  else
    call lsp_assist#ask#turn(l:chat, a:turn, a:is_urgent)
  endif
endfunction

" :QW and :Q -w: the model reads what a question would show it, and answers nothing.
function! lsp_assist#ask#warm(asked, typed) abort
  let l:question = lsp_assist#question#parse(a:typed)
  let l:turn = s:turn(l:question, a:asked)
  if !empty(l:turn)
    let l:chat = has_key(l:question.flags, 'n') ? lsp_assist#chat#new() : lsp_assist#chat#current()
    call s:choose_model(l:chat, l:question)
    call lsp_assist#warm#send(l:chat, l:turn, 0)
  endif
endfunction

" :QX
function! lsp_assist#ask#cancel() abort
  let l:chat = lsp_assist#chat#current()
  let l:chat.next = 0
  let l:turn = lsp_assist#chat#running(l:chat)
  if empty(l:turn)
    call lsp_assist#notice#info('no reply is running in this chat')
    return
  endif
  call lsp_assist#server#request('assist/cancel', {'turnId': l:turn.id}, function('s:told'))
endfunction

" :QR: the selected code is mended until its tests pass.
function! lsp_assist#ask#repair(asked, typed) abort
  let l:asked = empty(a:asked) ? lsp_assist#place#visual() : a:asked
  if empty(l:asked)
    call lsp_assist#notice#error('nothing was selected in this buffer')
    return
  endif
  let l:question = lsp_assist#question#parse('')
  let l:turn = s:turn(l:question, l:asked)
  if empty(l:turn) || empty(l:turn.context.selection)
    return
  endif
  let l:turn.text = empty(a:typed) ? 'Repair this.' : 'Repair this; tests: ' .. a:typed
  let l:chat = lsp_assist#chat#new()
  let l:params = extend({'chatId': l:chat.id, 'turnId': l:turn.id}, l:turn.context.selection)
  if !empty(a:typed)
    let l:params.tests = a:typed
  endif
  call s:send('assist/repair', l:chat, l:turn, l:params)
endfunction

" Asks a turn in a chat. While another one runs there it waits, or ends that one if it is urgent.
function! lsp_assist#ask#turn(chat, turn, is_urgent) abort
  let l:running = lsp_assist#chat#running(a:chat)
  if empty(l:running)
    call s:send('assist/ask', a:chat, a:turn, lsp_assist#ask#params(a:chat, a:turn))
    return
  endif
  let a:chat.next = {-> s:send('assist/ask', a:chat, a:turn, lsp_assist#ask#params(a:chat, a:turn))}
  if a:is_urgent
    call lsp_assist#server#request('assist/cancel', {'turnId': l:running.id}, function('s:told'))
  else
    call lsp_assist#notice#info('asked when the reply that is running has ended')
  endif
endfunction

" What `assist/ask` takes, and with it `assist/warm` and `assist/context`.
function! lsp_assist#ask#params(chat, turn) abort
  let l:params = {'chatId': a:chat.id, 'turnId': a:turn.id, 'text': a:turn.text}
  if !empty(a:turn.mode)
    let l:params.mode = a:turn.mode
  endif
  let l:model = empty(a:turn.model) ? a:chat.model : a:turn.model
  if !empty(l:model)
    let l:params.model = l:model
  endif
  if !empty(a:turn.context.spec)
    let l:params.context = a:turn.context.spec
  endif
  return l:params
endfunction

" Opens the command line with a command to be completed.
function! lsp_assist#ask#prompt(command) abort
  let l:command = substitute(a:command, '^Q', get(g:, 'lsp_assist_prefix', 'Q'), '')
  call feedkeys(":\<C-u>" .. l:command .. ' ', 'n')
endfunction

" A turn for the question; {} if there is none, which the user was told.
function! s:turn(question, asked) abort
  try
    if !empty(a:question.error)
      throw 'lsp-assist: ' .. a:question.error
    endif
    let l:context = lsp_assist#question#context(a:question, a:asked)
  catch /^lsp-assist: /
    call lsp_assist#notice#error(substitute(v:exception, '^lsp-assist: ', '', ''))
    return {}
  endtry
  if !empty(a:asked)
    call lsp_assist#documents#open(a:asked.bufnr)
  endif
  if &buftype ==# '' && !empty(bufname('%'))
    call lsp_assist#server#reach(expand('%:p'))
  endif
  return lsp_assist#chat#turn(lsp_assist#warm#turn_id(), a:question.text, a:question.mode, l:context)
endfunction

function! s:send(method, chat, turn, params) abort
  call lsp_assist#warm#asked()
  call lsp_assist#chat#begin(a:chat, a:turn)
  call lsp_assist#window#show(a:chat, 0)
  let [l:chat_id, l:turn_id] = [a:chat.id, a:turn.id]
  call lsp_assist#server#request(a:method, a:params,
        \ {result, error -> lsp_assist#chat#answered(l:chat_id, l:turn_id, result, error)})
endfunction

function! s:choose_model(chat, question) abort
  if !empty(a:question.model)
    let a:chat.model = a:question.model
  endif
endfunction

function! s:told(_result, error) abort
  if !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
  endif
endfunction
