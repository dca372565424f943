"""Environments of Holdfast: importing this package registers them with Gymnasium."""

from gymnasium.envs.registration import register

register(id="holdfast/Harmless-v1", entry_point="holdfast_envs.harmless:Harmless")
register(id="holdfast/Escalation-v0", entry_point="holdfast_envs.escalation:Escalation")
register(id="holdfast/Blackmail-v0", entry_point="holdfast_envs.blackmail:Blackmail")
