" :QC: the chats of this workspace, and one of them opened.

let s:known = []  " [{chatId, title}], of the last list

" :QC [words of a title]
function! lsp_assist#chats#command(words) abort
  call lsp_assist#server#request('assist/chats', {}, {result, error -> s:listed(a:words, result, error)})
endfunction

" Titles, for completion: those of the last list and of this Vim.
function! lsp_assist#chats#titles() abort
  let l:titles = map(copy(s:known), {_, chat -> chat.title})
        \ + map(filter(lsp_assist#chat#all(), {_, chat -> !empty(chat.turns)}), {_, chat -> chat.title})
  return uniq(sort(l:titles))
endfunction

" Fills the buffer of a chat that this Vim does not know yet.
function! lsp_assist#chats#load(id) abort
  call lsp_assist#server#request('assist/chat', {'chatId': a:id}, function('s:loaded'))
endfunction

function! s:listed(words, result, error) abort
  if !empty(a:error)
    if !lsp_assist#server#lacks('assist/chats')
      call lsp_assist#notice#error(a:error.message)
      return
    endif
    call lsp_assist#notice#info('this server keeps no chats yet: these are the chats of this Vim')
  endif
  let l:chats = get(a:result, 'chats', [])
  let l:ids = map(copy(l:chats), {_, chat -> chat.chatId})
  for l:chat in lsp_assist#chat#all()
    if index(l:ids, l:chat.id) < 0 && !empty(l:chat.turns)
      call add(l:chats, {'chatId': l:chat.id, 'title': l:chat.title, 'nTurns': len(l:chat.turns)})
    endif
  endfor
  let s:known = l:chats
  let l:found = filter(copy(l:chats), {_, chat -> stridx(tolower(chat.title), tolower(a:words)) >= 0})
  let l:same = filter(copy(l:found), {_, chat -> chat.title ==# a:words})
  if empty(l:found)
    call lsp_assist#notice#info(empty(a:words) ? 'there are no chats yet' : 'no chat is called so')
  elseif len(l:found) == 1 && !empty(a:words) || !empty(l:same)
    call s:open(empty(l:same) ? l:found[0] : l:same[0])
  else
    call lsp_assist#menu#pick('Chats', map(copy(l:found), {_, chat -> s:line(chat)}), {n -> s:open(l:found[n])})
  endif
endfunction

function! s:line(chat) abort
  let l:when = has_key(a:chat, 'updatedMs') ? strftime('%Y-%m-%d %H:%M  ', float2nr(a:chat.updatedMs / 1000)) : ''
  let l:n_turns = get(a:chat, 'nTurns', 0)
  return l:when .. a:chat.title .. (l:n_turns > 1 ? '  (' .. l:n_turns .. ' turns)' : '')
endfunction

function! s:open(listed) abort
  let l:chat = lsp_assist#chat#get(a:listed.chatId)
  if empty(l:chat)
    call lsp_assist#server#request('assist/chat', {'chatId': a:listed.chatId}, function('s:opened'))
  else
    call lsp_assist#window#show(l:chat, 1)
  endif
endfunction

function! s:opened(result, error) abort
  call s:loaded(a:result, a:error)
  if empty(a:error)
    call lsp_assist#window#show(lsp_assist#chat#get(a:result.chatId), mode() ==# 'n')
  endif
endfunction

function! s:loaded(result, error) abort
  if !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
    return
  endif
  let l:chat = lsp_assist#chat#add(a:result.chatId, a:result.title, lsp_assist#chats#branch(a:result))
  call lsp_assist#window#render(l:chat)
endfunction

" The turns of a chat as the server tells it, of the branch that a question would continue.
function! lsp_assist#chats#branch(chat) abort
  let l:by_id = {}
  for l:told in a:chat.turns
    let l:by_id[l:told.turnId] = l:told
  endfor
  let l:id = get(a:chat, 'lastTurnId', empty(a:chat.turns) ? '' : a:chat.turns[-1].turnId)
  let l:turns = []
  while has_key(l:by_id, l:id)
    call insert(l:turns, s:turn(l:by_id[l:id]))
    let l:id = get(l:by_id[l:id], 'parentTurnId', '')
  endwhile
  return l:turns
endfunction

" A turn that is still running is so elsewhere: its end is not told to us.
function! s:turn(told) abort
  let l:context = {'spec': {}, 'labels': [], 'excerpt': [], 'selection': {}}
  let l:turn = lsp_assist#chat#turn(a:told.turnId, a:told.text, get(a:told, 'mode', ''), l:context)
  let l:turn.parts = [a:told.reply]
  let l:turn.status = a:told.status ==# 'running' ? 'cancelled' : a:told.status
  let l:turn.sources = get(a:told, 'sources', [])
  return l:turn
endfunction
