"""Plugins: found by entry point or file, loaded one by one so that a bad one disturbs nobody.

options    which plugins the user wants (-p, environment)
manager    loads them, calls their hooks
catalog    the components they provide, found by name
inline     a single file as a plugin

May import code of others, and calls its hooks; everything that goes wrong there stays there.
"""
