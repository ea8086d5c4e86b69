<?php

declare(strict_types=1);

namespace Pocket\Model;

use InvalidArgumentException;

final class User
{
    private string $name;

    public function __construct(string $name)
    {
        if ($name === '') {
            throw new InvalidArgumentException('A user needs a name.');
        }
        $this->name = $name;
    }

    public function getName(): string
    {
        return $this->name;
    }
}
