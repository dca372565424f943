"""Chats: the words every other room speaks, and the interface of every environment.

Everything a model meets is a `ChatEnv`: a Gymnasium environment whose observation is a chat and whose action is the
assistant's reply, a plain string. An episode is a pure function of (environment config, seed, replies).
"""

from holdfast.chat.env import (
    SYSTEM_PROMPT_KNOB,
    TOOL_KNOB,
    ChatEnv,
    check_choice,
    check_count,
    check_flag,
    check_share,
)
from holdfast.chat.knobs import distractor_tools, system_prompt_pool
from holdfast.chat.parse import apart, parse_reply, read_calls, read_json, whole
from holdfast.chat.words import (
    TAGS,
    THINK_CLOSE,
    THINK_OPEN,
    TOOL_CLOSE,
    TOOL_OPEN,
    Judge,
    Message,
    Observation,
    Outcome,
    Pressure,
    Reply,
    Role,
    Said,
    Scene,
    Stance,
    ToolCall,
    ToolSpec,
    Transcript,
    Turn,
)

__all__ = [
    "SYSTEM_PROMPT_KNOB",
    "TAGS",
    "THINK_CLOSE",
    "THINK_OPEN",
    "TOOL_CLOSE",
    "TOOL_KNOB",
    "TOOL_OPEN",
    "ChatEnv",
    "Judge",
    "Message",
    "Observation",
    "Outcome",
    "Pressure",
    "Reply",
    "Role",
    "Said",
    "Scene",
    "Stance",
    "ToolCall",
    "ToolSpec",
    "Transcript",
    "Turn",
    "apart",
    "check_choice",
    "check_count",
    "check_flag",
    "check_share",
    "distractor_tools",
    "parse_reply",
    "read_calls",
    "read_json",
    "system_prompt_pool",
    "whole",
]
