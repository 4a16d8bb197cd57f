"""Chats: a tree of turns. A turn is frozen once it was answered; a fork is a pointer."""
