" Chats as this Vim knows them: turns, and what the server says of them while they run.
" Knows no window and no buffer; window.vim is told what changed.

" A chat: {id, title, model, turns: [turn], next: function or {}}
" A turn: {id, text, mode, model, context, parts, status, step, error, usage, sources, edits, n_shown}
"   status: 'running', 'done', 'cancelled', 'error'
"   n_shown: how many of the parts are in the window; -1 while it is about to show what there is
let s:chats = {}
let s:last = ''
let s:running = {}  " turn id -> the turn

let s:HEX = '0123456789abcdef'
let s:seed = srand()

" A version 4 UUID.
function! lsp_assist#chat#new_id() abort
  let l:digits = map(range(32), {-> s:HEX[rand(s:seed) % 16]})
  let l:digits[12] = '4'
  let l:digits[16] = s:HEX[8 + rand(s:seed) % 4]
  return substitute(join(l:digits, ''), '\(.\{8}\)\(.\{4}\)\(.\{4}\)\(.\{4}\)', '\1-\2-\3-\4-', '')
endfunction

" The chat with this id; {} if this Vim does not know it.
function! lsp_assist#chat#get(id) abort
  return get(s:chats, a:id, {})
endfunction

" All chats that this Vim knows.
function! lsp_assist#chat#all() abort
  return values(s:chats)
endfunction

" The chat that a question belongs to: of this window, else of this tab page, else the last one.
function! lsp_assist#chat#current() abort
  let l:id = lsp_assist#window#chat_here()
  let l:id = has_key(s:chats, l:id) ? l:id : s:last
  return has_key(s:chats, l:id) ? s:chats[l:id] : lsp_assist#chat#new()
endfunction

" A chat without turns; there is never more than one.
function! lsp_assist#chat#new() abort
  for l:chat in values(s:chats)
    if empty(l:chat.turns)
      let l:chat.model = get(g:, 'lsp_assist_model', '')
      let s:last = l:chat.id
      return l:chat
    endif
  endfor
  return lsp_assist#chat#add(lsp_assist#chat#new_id(), '', [])
endfunction

" A chat with turns that have ended; it becomes the last one used.
function! lsp_assist#chat#add(id, title, turns) abort
  let l:model = get(get(s:chats, a:id, {}), 'model', get(g:, 'lsp_assist_model', ''))
  let s:chats[a:id] = {'id': a:id, 'title': a:title, 'model': l:model, 'turns': a:turns, 'next': 0, 'warm': ''}
  let s:last = a:id
  return s:chats[a:id]
endfunction

" A turn that was not asked yet. `context` is that of lsp_assist#question#context().
function! lsp_assist#chat#turn(id, text, mode, context) abort
  return {'id': a:id, 'text': a:text, 'mode': a:mode, 'model': '', 'context': a:context, 'parts': [], 'status': 'running',
        \ 'step': '', 'error': '', 'usage': {}, 'sources': [], 'edits': [], 'n_shown': 0}
endfunction

" The turn joins its chat and runs: its events are listened for.
function! lsp_assist#chat#begin(chat, turn) abort
  let s:running[a:turn.id] = a:turn
  let s:last = a:chat.id
  if empty(a:chat.title)
    let l:asked = empty(a:turn.text) ? join(a:turn.context.labels) : a:turn.text
    let a:chat.title = strcharpart(substitute(l:asked, '\s\+', ' ', 'g'), 0, 60)
  endif
  call add(a:chat.turns, a:turn)
  call lsp_assist#window#begun(a:chat, a:turn)
endfunction

" The turn that runs in a chat; {} if none does.
function! lsp_assist#chat#running(chat) abort
  let l:last = get(a:chat.turns, -1, {})
  return get(l:last, 'status', '') ==# 'running' ? l:last : {}
endfunction

function! lsp_assist#chat#n_running() abort
  return len(filter(values(s:chats), {_, chat -> !empty(lsp_assist#chat#running(chat))}))
endfunction

function! lsp_assist#chat#reply(turn) abort
  return join(a:turn.parts, '')
endfunction

" An event of the server. One of a turn that ended here, or of none, is dropped. Deltas come by the
" thousand: the window is told of the first, and asks for the others when it shows them.
function! lsp_assist#chat#event(event) abort
  let l:turn = get(s:running, a:event.turnId, {})
  if a:event.kind ==# 'delta' && !empty(l:turn)
    call add(l:turn.parts, a:event.text)
    if l:turn.n_shown >= 0
      call lsp_assist#window#said(s:chats[a:event.chatId], l:turn)
    endif
  elseif a:event.kind ==# 'title'
    call s:name(get(s:chats, a:event.chatId, {}), a:event)
  elseif !empty(l:turn)
    call s:happened(s:chats[a:event.chatId], l:turn, a:event)
  endif
endfunction

function! s:happened(chat, turn, event) abort
  if a:event.kind ==# 'step'
    let a:turn.step = a:event.text
    call lsp_assist#window#status(a:chat)
  elseif a:event.kind ==# 'usage'
    let a:turn.usage = a:event.usage
  elseif a:event.kind ==# 'edit'
    call add(a:turn.edits, a:event)
  elseif a:event.kind =~# '^\%(done\|cancelled\|error\)$'
    let a:turn.sources = get(a:event, 'sources', [])
    call s:end(a:chat, a:turn, a:event.kind, get(get(a:event, 'error', {}), 'message', ''))
  endif
endfunction

function! s:name(chat, event) abort
  if !empty(a:chat)
    let a:chat.title = a:event.title
    call lsp_assist#window#status(a:chat)
  endif
endfunction

" What `assist/ask` answered. The events have told it all, unless one was lost.
function! lsp_assist#chat#answered(chat_id, turn_id, result, error) abort
  let l:chat = get(s:chats, a:chat_id, {})
  let l:found = filter(copy(get(l:chat, 'turns', [])), {_, turn -> turn.id ==# a:turn_id})
  if empty(l:found)
    return
  endif
  let l:turn = l:found[0]
  if !empty(a:error)
    if l:turn.status ==# 'running'
      call s:end(l:chat, l:turn, 'error', a:error.message)
    endif
    return
  endif
  let l:turn.usage = get(a:result, 'usage', l:turn.usage)
  let l:turn.sources = get(a:result, 'sources', l:turn.sources)
  let l:is_whole = a:result.text ==# lsp_assist#chat#reply(l:turn)
  if !l:is_whole
    let l:turn.parts = [a:result.text]
  endif
  if l:turn.status ==# 'running'
    call s:end(l:chat, l:turn, a:result.status, get(get(a:result, 'error', {}), 'message', ''))
  endif
  if !l:is_whole
    call lsp_assist#window#render(l:chat)
  endif
  call lsp_assist#window#status(l:chat)
endfunction

" The server is there: what waited for it is on its way.
function! lsp_assist#chat#ready() abort
  for l:chat in values(s:chats)
    if !empty(lsp_assist#chat#running(l:chat))
      call lsp_assist#window#status(l:chat)
    endif
  endfor
endfunction

" The server is gone: what ran has ended.
function! lsp_assist#chat#lost(reason) abort
  for l:chat in values(s:chats)
    let l:turn = lsp_assist#chat#running(l:chat)
    let l:chat.warm = ''
    if !empty(l:turn)
      let l:chat.next = 0
      call s:end(l:chat, l:turn, 'error', a:reason)
    endif
  endfor
endfunction

function! s:end(chat, turn, status, error) abort
  let a:turn.status = a:status
  if has_key(s:running, a:turn.id)
    call remove(s:running, a:turn.id)
  endif
  let a:turn.error = a:error
  let a:turn.step = ''
  call lsp_assist#window#ended(a:chat, a:turn)
  if type(a:chat.next) == v:t_func
    let l:Next = a:chat.next
    let a:chat.next = 0
    call l:Next()
  endif
endfunction
