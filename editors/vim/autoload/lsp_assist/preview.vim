" :QI: what would be shown to the model, what of it is warm, and what it would cost.

function! lsp_assist#preview#command(asked, typed) abort
  let l:question = lsp_assist#question#parse(a:typed)
  let l:chat = lsp_assist#chat#current()
  try
    if !empty(l:question.error)
      throw 'lsp-assist: ' .. l:question.error
    endif
    let l:context = lsp_assist#question#context(l:question, a:asked)
  catch /^lsp-assist: /
    call lsp_assist#notice#error(substitute(v:exception, '^lsp-assist: ', '', ''))
    return
  endtry
  if !empty(a:asked)
    call lsp_assist#documents#open(a:asked.bufnr)
  endif
  let l:turn = lsp_assist#chat#turn(lsp_assist#warm#turn_id(), l:question.text, l:question.mode, l:context)
  let l:turn.model = l:question.model
  call lsp_assist#server#request('assist/context', lsp_assist#ask#params(l:chat, l:turn), function('s:told'))
endfunction

function! s:told(result, error) abort
  if !empty(a:error)
    call lsp_assist#notice#error(a:error.message)
  else
    call lsp_assist#page#show('context', s:lines(a:result))
  endif
endfunction

function! s:lines(told) abort
  let l:facts = [a:told.model, a:told.tokens .. ' tokens', a:told.cold .. ' of them cold']
  call extend(l:facts, has_key(a:told, 'window') ? ['window ' .. a:told.window] : [])
  call extend(l:facts, has_key(a:told, 'seconds') ? [printf('about %.1f s to the first text', a:told.seconds)] : [])
  call extend(l:facts, has_key(a:told, 'costUsd') ? [printf('$%.4f', a:told.costUsd)] : [])
  let l:lines = ['What the question would be asked with (q closes this page)', '', join(l:facts, ' · ')]
  let l:lines += filter([a:told.reason, a:told.note], {_, text -> !empty(text)})
  let l:lines += ['', 'Tokens'] + map(copy(a:told.pieces), {_, piece -> s:piece(piece)})
  if a:told.historyTokens > 0
    let l:lines += [printf('%6d  of these are earlier turns', a:told.historyTokens)]
  endif
  if a:told.nLeftOut > 0
    let l:lines += ['', 'Left out: ' .. a:told.nLeftOut]
          \ + map(copy(a:told.leftOut), {_, one -> printf('%6d  %s:%d-%d  %s',
          \   one.tokens, one.path, one.startLine + 1, one.endLine + 1, one.why)})
  endif
  return map(l:lines, {_, line -> substitute(line, "\n", ' ', 'g')})
endfunction

function! s:piece(piece) abort
  let l:place = get(a:piece, 'path', '') .. (has_key(a:piece, 'startLine') && has_key(a:piece, 'endLine')
        \ ? ':' .. (a:piece.startLine + 1) .. '-' .. (a:piece.endLine + 1) : '')
  let l:told = filter([l:place, a:piece.level, a:piece.why], {_, text -> !empty(text)})
  return printf('%6d  %-10s %s', a:piece.tokens, a:piece.kind, join(l:told, '  '))
endfunction
