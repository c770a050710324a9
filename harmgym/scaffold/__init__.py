"""How an agent acts. Nothing here touches a machine: an agent acts by returning an action."""
