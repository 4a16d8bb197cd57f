" lsp-assist: ask about the code in front of you. See doc/lsp_assist.txt.
" Commands and <Plug> maps only; all else is loaded when it is first used.
" Vim 9.0, or 8.2 with patch 4780.

" Neovim has plugin/lsp_assist.lua instead.
if exists('g:loaded_lsp_assist') || &compatible || has('nvim')
  finish
endif
let g:loaded_lsp_assist = 1

let s:cpo = &cpoptions
set cpoptions&vim

" Those who have another :Q begin the commands with other letters.
let s:q = get(g:, 'lsp_assist_prefix', 'Q')

execute 'command! -bang -range -nargs=* -complete=customlist,lsp_assist#completion#question' s:q
      \ 'call lsp_assist#ask#command(<bang>0, lsp_assist#place#asked(<range>, <line1>, <line2>), <q-args>)'
execute 'command! -bang -range -nargs=* -complete=customlist,lsp_assist#completion#question' s:q .. 'F'
      \ 'call lsp_assist#ask#fork(<bang>0, lsp_assist#place#asked(<range>, <line1>, <line2>), <q-args>)'
execute 'command! -range -nargs=* -complete=customlist,lsp_assist#completion#question' s:q .. 'W'
      \ 'call lsp_assist#ask#warm(lsp_assist#place#asked(<range>, <line1>, <line2>), <q-args>)'
execute 'command! -range -nargs=* -complete=customlist,lsp_assist#completion#question' s:q .. 'I'
      \ 'call lsp_assist#preview#command(lsp_assist#place#asked(<range>, <line1>, <line2>), <q-args>)'
execute 'command! -range -nargs=*' s:q .. 'R'
      \ 'call lsp_assist#ask#repair(lsp_assist#place#asked(<range>, <line1>, <line2>), <q-args>)'
execute 'command! -range -nargs=0' s:q .. 'A'
      \ 'call lsp_assist#actions#menu(lsp_assist#place#asked(<range>, <line1>, <line2>))'
execute 'command! -nargs=? -complete=customlist,lsp_assist#completion#chats' s:q .. 'C'
      \ 'call lsp_assist#chats#command(<q-args>)'
execute 'command! -nargs=? -complete=customlist,lsp_assist#completion#models' s:q .. 'M'
      \ 'call lsp_assist#models#command(<q-args>)'
execute 'command! -nargs=0' s:q .. 'X call lsp_assist#ask#cancel()'
execute 'command! -bang -nargs=+' s:q .. 'S call lsp_assist#search#command(<bang>0, <q-args>)'
execute 'command! -nargs=0' s:q .. 'Doctor call lsp_assist#doctor#command()'

" Nothing is mapped unless you map it; |lsp-assist-maps| has a recommended set.
execute 'nnoremap <silent> <Plug>(lsp-assist-chat) :<C-u>' .. s:q .. '<CR>'
execute 'nnoremap <Plug>(lsp-assist-ask) :<C-u>' .. s:q .. '<Space>'
execute 'xnoremap <Plug>(lsp-assist-ask) :' .. s:q .. '<Space>'
execute 'nnoremap <Plug>(lsp-assist-fork) :<C-u>' .. s:q .. 'F<Space>'
" Warm with the selection, then fill in the command line and wait for the question.
execute 'xnoremap <silent> <Plug>(lsp-assist-warm) :<C-u>''<,''>' .. s:q .. 'W<CR>'
execute 'xnoremap <Plug>(lsp-assist-warm-ask) :<C-u>''<,''>' .. s:q .. ' -wst<CR>:''<,''>' .. s:q .. ' -st<Space>'
execute 'nnoremap <Plug>(lsp-assist-warm-ask) :<C-u>' .. s:q .. ' -wft<CR>:' .. s:q .. ' -ft<Space>'
execute 'nnoremap <silent> <Plug>(lsp-assist-chats) :<C-u>' .. s:q .. 'C<CR>'
execute 'nnoremap <silent> <Plug>(lsp-assist-models) :<C-u>' .. s:q .. 'M<CR>'
execute 'nnoremap <silent> <Plug>(lsp-assist-cancel) :<C-u>' .. s:q .. 'X<CR>'
execute 'nnoremap <Plug>(lsp-assist-search) :<C-u>' .. s:q .. 'S<Space>'
execute 'xnoremap <silent> <Plug>(lsp-assist-actions) :' .. s:q .. 'A<CR>'
execute 'nnoremap <silent> <Plug>(lsp-assist-actions) :.' .. s:q .. 'A<CR>'

" A question is warmed while it is typed. Any other command line costs one match of this.
let s:question = '\C^[ :]*\%(''<,''>\|%\|\.\|\d\+\%(,\d\+\)\?\)\?' .. s:q .. 'F\?!\?\s'

augroup lsp_assist
  autocmd!
  if exists('##CmdlineChanged')
    autocmd CmdlineChanged : if getcmdline() =~# s:question | call lsp_assist#warm#typed(getcmdline()) | endif
    autocmd CmdlineLeave : if getcmdline() =~# s:question | call lsp_assist#warm#left() | endif
  endif
  autocmd BufReadCmd lspassist://* call lsp_assist#window#read(expand('<amatch>'))
  autocmd BufWinEnter lspassist://* call lsp_assist#window#dress()
augroup END

let &cpoptions = s:cpo
unlet s:cpo
