"""Dialogues made from tables."""


def dialogues():
    return []
