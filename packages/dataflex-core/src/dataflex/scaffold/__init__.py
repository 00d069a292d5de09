"""Writing a new component package: ``dataflex new-component``.

    names     what the package, its module and its class are called
    package   fills the templates in
    templates/package     files that every kind has
    templates/KIND        parameters, class and tests of one kind

Templates are text with ``@{name}`` places; ``.txt`` is cut off their names.

May write a new folder; touches no existing file.
"""
