" Completion of what is typed after the commands. Waits for nothing: what is not known yet is missing.

" Flags, @models and /modes, in front of the question.
function! lsp_assist#completion#question(lead, line, position) abort
  let l:command = '\C^.\{-}' .. get(g:, 'lsp_assist_prefix', 'Q') .. '\a\?!\?\s\+'
  let l:before = substitute(strpart(a:line, 0, a:position - len(a:lead)), l:command, '', '')
  if l:before =~# '\%(^\|\s\)[^-@/[:space:]]\S*\s'
    return []
  elseif a:lead =~# '^@'
    let l:words = map(lsp_assist#models#names(), {_, name -> '@' .. name})
  elseif a:lead =~# '^/'
    let l:words = map(copy(lsp_assist#models#modes()), {_, name -> '/' .. name})
  elseif a:lead =~# '^-'
    let l:letters = filter(keys(lsp_assist#question#flags()), {_, letter -> stridx(a:lead, letter) < 0})
    let l:words = map(sort(l:letters), {_, letter -> a:lead .. letter})
  else
    let l:words = empty(a:lead) ? map(sort(keys(lsp_assist#question#flags())), {_, letter -> '-' .. letter})
          \ + map(copy(lsp_assist#models#modes()), {_, name -> '/' .. name}) : []
  endif
  return filter(l:words, {_, word -> stridx(word, a:lead) == 0})
endfunction

function! lsp_assist#completion#models(lead, _line, _position) abort
  return filter(lsp_assist#models#names(), {_, name -> stridx(name, a:lead) == 0})
endfunction

function! lsp_assist#completion#chats(lead, _line, _position) abort
  return filter(lsp_assist#chats#titles(), {_, title -> stridx(tolower(title), tolower(a:lead)) == 0})
endfunction
