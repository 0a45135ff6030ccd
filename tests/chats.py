"""Conversations of any shape, each message saying where it was."""

from __future__ import annotations

from hypothesis import strategies as st

from service.generation import Chat, Message, Role

ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
roles = st.sampled_from(ROLES)
chats = st.lists(roles, min_size=1, max_size=12).map(
    lambda roles: Chat(tuple(Message(role, str(at)) for at, role in enumerate(roles)))
)
