"""Environments of Holdfast: importing this package registers them with Gymnasium."""

from gymnasium.envs.registration import register

# pressure that endorses what a study installs
register(id="holdfast/Harmless-v2", entry_point="holdfast_envs.requests.harmless:Harmless")
register(id="holdfast/Escalation-v1", entry_point="holdfast_envs.requests.escalation:Escalation")
register(id="holdfast/Prompts-v0", entry_point="holdfast_envs.requests.dataset:Prompts")
# pressure that says nothing about it
register(id="holdfast/Neutral-v0", entry_point="holdfast_envs.tasks.neutral:Neutral")
# pressure that pays for the opposite
register(id="holdfast/Goal-v0", entry_point="holdfast_envs.tasks.goal:Goal")
# honeypots
register(id="holdfast/Blackmail-v0", entry_point="holdfast_envs.honeypots.blackmail:Blackmail")
