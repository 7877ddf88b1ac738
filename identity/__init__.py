"""Who people are: JSON Web Tokens of an OpenID Connect issuer, and what its groups may see."""
