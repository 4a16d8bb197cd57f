" Warming: the model reads the question while it is typed. Never blocks, never says anything unless
" it was asked to.
"
" The next turn has its id before it is asked, so that what is warmed and what is asked are one turn.

let s:turn_id = ''
let s:timer = -1
let s:typed = ''

let s:PAUSE_MS = 150

" The id of the turn that will be asked next.
function! lsp_assist#warm#turn_id() abort
  let s:turn_id = empty(s:turn_id) ? lsp_assist#chat#new_id() : s:turn_id
  return s:turn_id
endfunction

" That turn was asked: the next one is another.
function! lsp_assist#warm#asked() abort
  call timer_stop(s:timer)
  let s:turn_id = ''
endfunction

" The command line holds a question that is still typed. Called for each key: only a timer is set.
function! lsp_assist#warm#typed(line) abort
  call timer_stop(s:timer)
  if get(g:, 'lsp_assist_warm', 1) && !lsp_assist#server#lacks('assist/warm')
    let s:typed = a:line
    let s:timer = timer_start(s:PAUSE_MS, {-> s:quietly(function('s:warm_typed'))})
  endif
endfunction

" The same for a question that is typed in a window.
function! lsp_assist#warm#typed_here(chat_id, text) abort
  call timer_stop(s:timer)
  if get(g:, 'lsp_assist_warm', 1) && !lsp_assist#server#lacks('assist/warm')
    let s:timer = timer_start(s:PAUSE_MS, {-> s:quietly({-> s:warm_text(a:chat_id, a:text)})})
  endif
endfunction

" The command line was left, by <CR> or <Esc>.
function! lsp_assist#warm#left() abort
  call timer_stop(s:timer)
endfunction

" Warms what the turn would show. Silent where nobody asked for it by name.
function! lsp_assist#warm#send(chat, turn, is_silent) abort
  let l:id = a:chat.id
  let a:chat.warm = 'warming'
  call lsp_assist#window#status(a:chat)
  call lsp_assist#server#request('assist/warm', lsp_assist#ask#params(a:chat, a:turn),
        \ {result, error -> s:warmed(l:id, a:is_silent, result, error)})
endfunction

function! s:warmed(chat_id, is_silent, result, error) abort
  let l:chat = lsp_assist#chat#get(a:chat_id)
  if !empty(l:chat)
    let l:chat.warm = empty(a:error) && get(a:result, 'tokens') > 0 ? 'warm ' .. a:result.tokens : ''
    call lsp_assist#window#status(l:chat)
  endif
  if a:is_silent
    return
  elseif !empty(a:error)
    call lsp_assist#notice#error('not warmed: ' .. a:error.message)
  elseif a:result.tokens == 0
    call lsp_assist#notice#info('nothing is warm' .. (has_key(a:result, 'reason') ? ': ' .. a:result.reason : ''))
  else
    call lsp_assist#notice#info(printf('warm: %d tokens, %d of them already were, in %d ms',
          \ a:result.tokens, a:result.cached, float2nr(a:result.ms + 0.0))
          \ .. (has_key(a:result, 'reason') ? '; ' .. a:result.reason : ''))
  endif
endfunction

" Runs while something is typed: an error here would be shown across it.
function! s:quietly(Do) abort
  try
    call a:Do()
  catch
    call lsp_assist#doctor#log('while warming: ' .. v:exception)
  endtry
endfunction

function! s:warm_typed() abort
  let l:command = get(g:, 'lsp_assist_prefix', 'Q') .. '\(F\?\)!\?\s\+\(.*\)$'
  let l:match = matchlist(s:typed, '\C^[ :]*\(.\{-}\)' .. l:command)
  if empty(l:match) || !empty(getcmdwintype())
    return
  endif
  let l:asked = s:asked(l:match[1])
  let l:question = lsp_assist#question#parse(l:match[3])
  " A fork reads what its chat has read, and its own chat is not there yet.
  if empty(l:asked) && !empty(l:match[1]) || l:match[2] ==# 'F'
    return
  endif
  let l:is_new = has_key(l:question.flags, 'n')
  call s:warm(l:is_new ? lsp_assist#chat#new() : lsp_assist#chat#current(), l:question, l:asked)
endfunction

function! s:warm_text(chat_id, text) abort
  call s:warm(lsp_assist#chat#get(a:chat_id), lsp_assist#question#parse(a:text), {})
endfunction

" Not while the chat's reply is running: what will stand before the question is not known yet.
function! s:warm(chat, question, asked) abort
  let l:is_empty = empty(a:asked) && a:question.text .. join(keys(a:question.flags), '') !~# '\S'
  if empty(a:chat) || l:is_empty || !empty(a:question.error) || !empty(lsp_assist#chat#running(a:chat))
    return
  endif
  let l:context = lsp_assist#question#context(a:question, a:asked)
  let l:turn = lsp_assist#chat#turn(lsp_assist#warm#turn_id(), a:question.text, a:question.mode, l:context)
  let l:turn.model = a:question.model
  call lsp_assist#warm#send(a:chat, l:turn, 1)
endfunction

" The range in front of the command, where it can be told without running it.
function! s:asked(range) abort
  let l:range = substitute(a:range, '\s', '', 'g')
  if l:range ==# "'<,'>"
    return lsp_assist#place#visual()
  elseif l:range ==# '%'
    return lsp_assist#place#asked(2, 1, line('$'))
  elseif l:range =~# '^\%(\.\|\d\+\)\%(,\%(\.\|\d\+\|\$\)\)\?$'
    let l:lines = map(split(l:range, ','), {_, n -> n =~# '\d' ? str2nr(n) : line(n)})
    return min(l:lines) < 1 || max(l:lines) > line('$') ? {}
          \ : lsp_assist#place#asked(2, min(l:lines), max(l:lines))
  endif
  return {}
endfunction
