"""Environments that no library has, and wrappers that bring others into one form."""

import gymnasium

gymnasium.register("KeyToDoor-v0", entry_point="helpers.envs.key_to_door:KeyToDoor")
gymnasium.register("Gamble-v0", entry_point="helpers.envs.tables:Gamble", max_episode_steps=5)
gymnasium.register("Crossroads-v0", entry_point="helpers.envs.crossroads:Crossroads")
gymnasium.register("GoToPart-v0", entry_point="helpers.envs.adaptation:GoToPart")
gymnasium.register("GoToBoth-v0", entry_point="helpers.envs.adaptation:GoToBoth")
