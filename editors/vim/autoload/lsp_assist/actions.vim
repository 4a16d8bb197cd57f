" :QA: what the server offers for the selected code, as a menu.

let s:ASK = 'lsp-assist.ask'

function! lsp_assist#actions#menu(asked) abort
  let l:asked = empty(a:asked) ? lsp_assist#place#visual() : a:asked
  if empty(l:asked)
    call lsp_assist#notice#error('nothing was selected in this buffer')
    return
  endif
  call lsp_assist#documents#open(l:asked.bufnr)
  call lsp_assist#server#reach(expand('%:p'))
  let l:params = {
        \ 'textDocument': {'uri': lsp_assist#place#uri(l:asked.bufnr)},
        \ 'range': lsp_assist#place#range(l:asked),
        \ 'context': {'diagnostics': [], 'triggerKind': 1},
        \ }
  call lsp_assist#server#request('textDocument/codeAction', l:params,
        \ {result, error -> s:offered(l:asked, result, error)})
endfunction

function! s:offered(asked, result, error) abort
  if !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
    return
  endif
  " A client says whether it knows more than commands; through vim-lsp, it says that it does.
  let l:offers = type(a:result) == v:t_list ? copy(a:result) : []
  let l:commands = map(l:offers, {_, offer -> type(get(offer, 'command')) == v:t_dict ? offer.command : offer})
  call filter(l:commands, {_, command -> command.command =~# '^lsp-assist\.'})
  if empty(l:commands)
    call lsp_assist#notice#info('there is nothing to do here')
    return
  endif
  let l:titles = map(copy(l:commands), {_, command -> substitute(command.title, '^Assistant: ', '', '')})
  call lsp_assist#menu#pick('Assistant', l:titles, {n -> s:picked(a:asked, l:commands[n], l:titles[n])})
endfunction

function! s:picked(asked, command, title) abort
  if a:command.command ==# s:ASK
    let l:range = a:asked.is_visual ? "'<,'>" : a:asked.line1 .. ',' .. a:asked.line2
    call feedkeys(":\<C-u>" .. l:range .. get(g:, 'lsp_assist_prefix', 'Q') .. ' ', 'n')
    return
  endif
  let l:chat = lsp_assist#chat#new()
  let l:context = lsp_assist#question#context({'flags': {}}, a:asked)
  let l:turn = lsp_assist#chat#turn(lsp_assist#chat#new_id(), a:title, '', l:context)
  let l:argument = extend(copy(a:command.arguments[0]), {'chatId': l:chat.id, 'turnId': l:turn.id})
  call lsp_assist#chat#begin(l:chat, l:turn)
  call lsp_assist#window#show(l:chat, 0)
  let [l:chat_id, l:turn_id] = [l:chat.id, l:turn.id]
  let l:params = {'command': a:command.command, 'arguments': [l:argument]}
  call lsp_assist#server#request('workspace/executeCommand', l:params,
        \ {_, error -> empty(error) ? 0 : lsp_assist#chat#answered(l:chat_id, l:turn_id, {}, error)})
endfunction
