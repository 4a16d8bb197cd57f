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
  return split(json_encode(a:told), "\n")
endfunction
